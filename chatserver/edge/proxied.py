"""Behind a balancer: the client of a connection or of a request.

Owns: the list of trusted proxies, the state `PROXY`, and `Connection.address` of connections that a proxy made. May
not: believe an address that is not on the list. If the list is empty, no address is believed.

A connection is counted (cap of its network, places, eviction) for the client as soon as that is known: by the PROXY
header for the connection, by `X-Forwarded-For` from the end of a request's head until its answer is sent. At all other
times it counts for the proxy, which has no cap of its own: proxies keep connections for the next request, whose body
may be slow, and whose client may be another.
"""

import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import choice

from chatserver.edge.closes import CloseStats
from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.handler import Handler
from chatserver.net.states import State
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import Head
from chatserver.protocol.proxy import ProxyError, client_of, parse_proxy_header
from chatserver.reasons import ErrorCode, Reason
from chatserver.settings.forms import network

#: Retry-After (s) for a client whose network is at its cap.
CAP_RETRY = 5
#: Addresses for which the answer is cached: proxies are few, and they connect often.
CACHED_PROXIES = 4096


def trusted_proxies(networks: Sequence[str]) -> Callable[[str], bool]:
    """A predicate: is this the address of a trusted proxy? An IPv4-mapped IPv6 address counts as the IPv4 address."""
    if not networks:
        return lambda address: False  # asked about each newcomer
    parsed_networks = [ipaddress.ip_network(network(each)) for each in networks]

    @lru_cache(CACHED_PROXIES)
    def trusted(address: str) -> bool:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in each for each in parsed_networks)

    return trusted


class ProxyHandler(Handler):
    """`PROXY`: a balancer's PROXY header, gathered in the inbox; `then` is the state that follows."""

    def __init__(
        self, connections: Connections, admission: Admission, *, then: State, refusals: Sequence[bytes],
        forwarded: "ForwardedFor",
    ) -> None:  # fmt: skip
        super().__init__(connections)
        self._admission = admission
        self._forwarded = forwarded
        self._then = then
        self._refusals = refusals

    def received(self, connection: Connection, data: bytes) -> None:
        connection.inbox = data = connection.inbox + data
        try:
            header = parse_proxy_header(data)
        except ProxyError as error:
            self._fail(connection, error.message)
            return
        if header is None:
            return
        connection.inbox = b""
        if header.source is None:
            self._forwarded.disbelieve(connection)
        else:
            reason = self._admission.move(connection, header.source)
            if reason is not None:
                self._forwarded.stats.tell_refused(reason, header.source)
                refusal = choice(self._refusals)  # noqa: S311  jitter, not secrecy
                self._connections.finish(connection, reason, refusal)
                return
        self._connections.enter(connection, self._then)
        rest = data[header.size :]
        if rest:
            self._connections.handlers[connection.state].received(connection, rest)

    def _fail(self, connection: Connection, message: str) -> None:
        self._connections.misbehaved(connection, Reason.PROXY_HEADER, message)
        self._connections.close(connection, Reason.PROXY_HEADER)

    def expired(self, connection: Connection) -> None:
        self._fail(connection, "no PROXY header in time")


class ForwardedFor:
    """`X-Forwarded-For` of trusted proxies; it keeps nothing for any other connection."""

    def __init__(self, trusted: Callable[[str], bool], admission: Admission, stats: CloseStats) -> None:
        self._trusted = trusted
        self._admission = admission
        self.stats = stats
        self._proxy_of: dict[Connection, str] = {}
        self._unnamed: set[Connection] = set()  # their proxy passes a client's bytes on, and does not say whose

    def disbelieve(self, connection: Connection) -> None:
        """Believe no field of this connection, after a PROXY header that names no client."""
        self._unnamed.add(connection)

    def apply(self, connection: Connection, head: Head) -> bool:
        """`claim` for a whole request, after whose refusal the connection stays open: it is counted here."""
        try:
            return self.claim(connection, head)
        except HttpError as error:
            self.stats.closes[error.reason] += 1
            raise

    def claim(self, connection: Connection, head: Head) -> bool:
        """Count the connection for the client of a request. Raises HttpError if that client has too many.

        Returns whether a trusted HTTP proxy sent it. (After a PROXY header the address is already the client's.)
        """
        proxy = self._proxy_of.get(connection, connection.address)
        if connection in self._unnamed or not self._trusted(proxy):
            return False
        client = client_of(head.headers.get("x-forwarded-for", ""), self._trusted) or proxy
        if client == connection.address:
            return True
        reason = self._admission.move(connection, client)
        if reason is not None:
            self.stats.tell_refused(reason, client)
            raise HttpError(ErrorCode.FULL, reason.sentence, reason=reason, headers=(("Retry-After", str(CAP_RETRY)),))
        self._proxy_of[connection] = proxy
        return True

    def answered(self, connection: Connection) -> None:
        """Count a connection for its proxy again, since its answer is sent."""
        proxy = self._proxy_of.pop(connection, None)
        if proxy is not None:
            self._admission.move(connection, proxy)

    def forget(self, connection: Connection) -> None:
        self._unnamed.discard(connection)
        self._proxy_of.pop(connection, None)
