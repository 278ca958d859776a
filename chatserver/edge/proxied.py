"""Behind a balancer: for whom a connection was made, and for whom a request.

Owns: the list of trusted proxies, the state `PROXY`, and `Connection.address` where somebody else is on the other end.
May not: believe what comes from an address that is not on the list. Empty, nobody is believed.

A connection is counted (cap of its network, places, reclaim) for the client, as soon as that is known: by the PROXY
header for the connection, by `X-Forwarded-For` for each request. Until then it counts for the proxy, which has no cap
of its own.
"""

import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import choice

from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.handler import Handler
from chatserver.net.states import State
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import Head
from chatserver.protocol.proxy import ProxyError, client_of, parse_proxy_header
from chatserver.reasons import ErrorCode, Reason

#: Seconds told to a client whose network holds as many connections as it may.
CAP_RETRY = 5
#: Addresses whose answer is remembered: proxies are few, and they connect often.
REMEMBERED = 4096


def trusted_proxies(networks: Sequence[str]) -> Callable[[str], bool]:
    """What tells whether an address is a trusted proxy's. An IPv4 address in IPv6 form is the IPv4 address."""
    parsed_networks = [ipaddress.ip_network(each, strict=False) for each in networks]

    @lru_cache(REMEMBERED)
    def trusted(address: str) -> bool:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in parsed_networks)

    return trusted


class ProxyHandler(Handler):
    """`PROXY`: the header of a balancer that must send one, gathered in the inbox; `then` is the state behind it."""

    def __init__(
        self, connections: Connections, admission: Admission, *, then: State, refusals: Sequence[bytes]
    ) -> None:  # fmt: skip
        super().__init__(connections)
        self._admission = admission
        self._then = then
        self._refusals = refusals

    def received(self, connection: Connection, data: bytes) -> bool:
        """The balancer's bytes, until its header ends."""
        connection.inbox = data = connection.inbox + data
        try:
            header = parse_proxy_header(data)
        except ProxyError as error:
            self._fail(connection, error.message)
            return False
        if header is None:
            return False
        connection.inbox = b""
        if header.source is not None:
            reason = self._admission.move(connection, header.source)
            if reason is not None:
                refusal = choice(self._refusals)  # noqa: S311  jitter, not secrecy
                self._connections.finish(connection, reason, refusal)
                return False
        self._connections.enter(connection, self._then)
        rest = data[header.size :]
        return self._connections.handler(connection).received(connection, rest) if rest else False

    def _fail(self, connection: Connection, message: str) -> None:
        self._connections.misbehaved(connection, Reason.PROXY_HEADER, message)
        self._connections.close(connection, Reason.PROXY_HEADER)

    def expired(self, connection: Connection) -> None:
        """Its deadline has passed."""
        self._fail(connection, "no PROXY header in time")


class ForwardedFor:
    """`X-Forwarded-For` of trusted proxies; remembers which connections are theirs, and nothing of any other."""

    def __init__(
        self, trusted: Callable[[str], bool], admission: Admission, *, refused: Callable[[Reason], None]
    ) -> None:  # fmt: skip
        self._trusted = trusted
        self._admission = admission
        self._refused = refused
        self._proxy_of: dict[Connection, str] = {}

    def apply(self, connection: Connection, head: Head) -> None:
        """Before a request is handled: count the connection for its client. Raises HttpError if there are too many."""
        proxy = self._proxy_of.get(connection, connection.address)
        if not self._trusted(proxy):
            return
        client = client_of(head.headers.get("x-forwarded-for", ""), self._trusted) or proxy
        if client == connection.address:
            return
        reason = self._admission.move(connection, client)
        if reason is not None:
            self._refused(reason)
            raise HttpError(
                ErrorCode.FULL, reason.sentence, reason=reason, headers=(("Retry-After", str(CAP_RETRY)),)
            )  # fmt: skip
        self._proxy_of[connection] = proxy

    def vouches(self, connection: Connection) -> bool:
        """Whether a trusted proxy is on the other end: one that speaks HTTP, since a PROXY header names its client."""
        return self._trusted(self._proxy_of.get(connection, connection.address))

    def closed(self, connection: Connection) -> None:
        """Gone."""
        self._proxy_of.pop(connection, None)
