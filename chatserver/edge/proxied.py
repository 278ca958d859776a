"""Behind a balancer: for whom a connection was made, and for whom a request.

Owns: the phase `PROXY`, and `Connection.address` where somebody else is on the other end. May not: believe what comes
from an address that is not on the list.

A connection is counted (per-address cap, places, eviction) for the client, as soon as that is known: by the PROXY
header for the connection, by `X-Forwarded-For` for each request. Until then it counts for the proxy, which has no cap
of its own.
"""

import sys
from collections.abc import Callable, Sequence
from random import choice

from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.connections import Attendant, Connections
from chatserver.net.layer import Layer
from chatserver.net.phases import Phase
from chatserver.net.proxies import TrustedProxies
from chatserver.protocol.errors import HttpError
from chatserver.protocol.forwarded import client_of
from chatserver.protocol.head import Head
from chatserver.protocol.proxy import ProxyError, parse_proxy_header
from chatserver.reasons import ErrorCode, Reason

#: Seconds told to a client whose address holds as many connections as it may.
CAP_RETRY = 5


class ProxyHeaderLayer(Layer):
    """Reads the PROXY header of those who must send one (`Connections.speakers`); the rest is the inner one's."""

    def __init__(
        self, connections: Connections, admission: Admission, inner: Attendant, *,
        refusals: Sequence[bytes], note: Callable[[Connection, Reason, str], None],
    ) -> None:  # fmt: skip
        super().__init__(inner)
        self._connections = connections
        self._admission = admission
        self._refusals = refusals
        self._note = note

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes came; in PROXY they are the balancer's until its header ends."""
        if connection.phase is not Phase.PROXY:
            self.inner.received(connection, data)
            return
        data = connection.inbox + data
        try:
            header = parse_proxy_header(data)
        except ProxyError as error:
            self._fail(connection, error.message)
            return
        connection.inbox = b"" if header is not None else data
        if header is None or (header.source is not None and not self._counts_for(connection, header.source)):
            return
        self._connections.enter(connection, self._connections.first)
        rest = data[header.size :]
        if rest:
            self.inner.received(connection, rest)

    def _counts_for(self, connection: Connection, client: str) -> bool:
        reason = self._admission.move(connection.address, client)
        if reason is None:
            connection.address = sys.intern(client)
            return True
        self._connections.turn_away(connection, reason, choice(self._refusals))  # noqa: S311  jitter, not secrecy
        return False

    def _fail(self, connection: Connection, message: str) -> None:
        self._note(connection, Reason.PROXY_HEADER, message)
        self._connections.close(connection, Reason.PROXY_HEADER)

    def ended(self, connection: Connection) -> None:
        """FIN; a balancer that only looks whether we are there says nothing."""
        if connection.phase is Phase.PROXY:
            self._connections.close(connection, Reason.PEER_CLOSED)
        else:
            self.inner.ended(connection)

    def expired(self, connection: Connection) -> None:
        """Its deadline has passed."""
        if connection.phase is Phase.PROXY:
            self._fail(connection, "no PROXY header in time")
        else:
            self.inner.expired(connection)

    def faulted(self, connection: Connection) -> None:
        """A bug of ours; before the header there is nobody to excuse it to."""
        if connection.phase is not Phase.PROXY:
            self.inner.faulted(connection)


class ForwardedLayer(Layer):
    """`X-Forwarded-For` of trusted proxies; remembers which connections are theirs, and nothing of any other."""

    def __init__(
        self, proxies: TrustedProxies, admission: Admission, inner: Attendant, *, refused: Callable[[Reason], None]
    ) -> None:
        super().__init__(inner)
        self._trusted = proxies.covers
        self._admission = admission
        self._refused = refused
        self._proxy_of: dict[Connection, str] = {}

    def settle(self, connection: Connection, head: Head) -> None:
        """Before a request is handled: count the connection for its client. Raises HttpError if there are too many."""
        proxy = self._proxy_of.get(connection, connection.address)
        if not self._trusted(proxy):
            return
        client = client_of(head.headers.get("x-forwarded-for", ""), self._trusted) or proxy
        if client == connection.address:
            return
        reason = self._admission.move(connection.address, client)
        if reason is not None:
            self._refused(reason)
            raise HttpError(
                ErrorCode.FULL, reason.sentence, reason=reason, headers=(("Retry-After", str(CAP_RETRY)),)
            )  # fmt: skip
        self._proxy_of[connection] = proxy
        connection.address = sys.intern(client)

    def closed(self, connection: Connection, reason: Reason) -> None:
        """Gone."""
        self._proxy_of.pop(connection, None)
        self.inner.closed(connection, reason)
