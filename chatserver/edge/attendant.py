"""Who is told what: one table from phase and event to the code that attends to it.

Owns: the dispatch, the notes on misbehaving peers, the count of reasons. May not: know HTTP or frames.
"""

from collections.abc import Callable

import structlog

from chatserver.api.session import Session
from chatserver.chat.hub import Hub
from chatserver.chat.member import Hold, Member
from chatserver.edge.exchange import LongHead, Upload
from chatserver.edge.http import HttpEdge
from chatserver.edge.websocket import WebSocketEdge
from chatserver.log.interface import LogError
from chatserver.net.admission import Admission
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections
from chatserver.net.phases import Phase
from chatserver.observe.logs import Limiter
from chatserver.protocol.errors import HttpError
from chatserver.protocol.response import error_response
from chatserver.protocol.websocket import lacking
from chatserver.reasons import ErrorCode, Reason

#: Bytes read and dropped of a peer that goes on sending after its end, until `CLOSING` is over: a whole body of the
#: largest size allowed. Beyond that it is not read, which costs nothing, and it can still read what we said.
LINGER_BYTES = 64 * 1024

#: Phases in which HTTP is spoken, and what is said there when we made a mistake.
_HTTP = frozenset((Phase.HEAD, Phase.BODY, Phase.KEEPALIVE, Phase.SERVING, Phase.HELD, Phase.STREAM))
_EXCUSE = error_response(HttpError(ErrorCode.INTERNAL, ErrorCode.INTERNAL.sentence))

_log = structlog.get_logger("chatserver.edge")
#: Ends that are decided below the edge: nobody else has written a line about them.
_UNSEEN = frozenset((Reason.FLUSH_DEADLINE, Reason.EVICTED))


class Notes:
    """Why connections ended: counted always, written to the log at a bounded rate."""

    def __init__(self, lines: Limiter) -> None:
        self.closes: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self._limiter = lines

    def misbehaved(self, connection: Connection, reason: Reason, detail: str) -> None:
        """A peer broke a rule; its connection will end for this."""
        self._limiter.write(
            _log.info, "misbehaved", reason=reason.label, peer=connection.address, phase=connection.phase.name,
            detail=detail,
        )  # fmt: skip

    def closed(self, connection: Connection, reason: Reason) -> None:
        """A connection is gone."""
        self.closes[reason] += 1
        if reason in _UNSEEN:
            self.misbehaved(connection, reason, reason.sentence)

    def refused(self, reason: Reason) -> None:
        """A peer was not let in."""
        self.closes[reason] += 1
        self._limiter.write(_log.warning, "refused", reason=reason.label)

    def publish_failed(self, error: LogError) -> None:
        """The log did not take a message: while a disk is full, every message of everybody."""
        self._limiter.write(_log.warning, "publish_failed", reason=type(error).__name__, detail=str(error))

    def report(self) -> None:
        """Write how many lines were left out."""
        self._limiter.report(_log.info)


class EdgeAttendant:
    """`net.connections.Attendant` over the HTTP and WebSocket edges."""

    def __init__(
        self, connections: Connections, http: HttpEdge, websocket: WebSocketEdge, hub: Hub,
        admission: Admission, notes: Notes,
    ) -> None:  # fmt: skip
        self._connections = connections
        self._http = http
        self._websocket = websocket
        self._hub = hub
        self._admission = admission
        self._notes = notes
        receives: dict[Phase, Callable[[Connection, bytes], None]] = {
            Phase.HEAD: http.intake.head_received,
            Phase.BODY: http.intake.body_received,
            Phase.KEEPALIVE: http.intake.head_received,
            Phase.SERVING: http.early_received,
            Phase.HELD: http.early_received,
            Phase.STREAM: http.stream_received,
            Phase.OPEN: websocket.received,
            Phase.PINGED: websocket.received,
            Phase.MESSAGE: websocket.received,
            Phase.CLOSING: self._linger,
            Phase.PACED: http.early_received,
            Phase.TLS: _below,
            Phase.PROXY: _below,
        }
        self._receives = tuple(receives[phase] for phase in Phase)
        expires: dict[Phase, Callable[[Connection], None]] = {
            Phase.HEAD: http.intake.head_expired,
            Phase.BODY: http.intake.body_expired,
            Phase.KEEPALIVE: http.keepalive_expired,
            Phase.SERVING: self._serving_expired,
            Phase.HELD: self._held_expired,
            Phase.STREAM: http.stream_expired,
            Phase.OPEN: websocket.open_expired,
            Phase.PINGED: websocket.pinged_expired,
            Phase.MESSAGE: websocket.message_expired,
            Phase.CLOSING: connections.closing_expired,
            Phase.PACED: http.paced_expired,
            Phase.TLS: _below,
            Phase.PROXY: _below,
        }
        self._expires = tuple(expires[phase] for phase in Phase)

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes came."""
        self._receives[connection.phase](connection, data)

    def lacking(self, connection: Connection) -> int:
        """What a frame or a `Content-Length` has announced and not brought."""
        match connection.phase:
            case Phase.MESSAGE:
                assert isinstance(connection.session, Session), "MESSAGE is a WebSocket's"
                return lacking(connection.inbox, connection.session.assembly)
            case Phase.BODY:
                upload = connection.session
                assert isinstance(upload, Upload), "BODY is only entered with an upload"
                return upload.body.lacking
            case _:
                return 0

    def expired(self, connection: Connection) -> None:
        """Its deadline has passed."""
        self._expires[connection.phase](connection)

    def ended(self, connection: Connection) -> None:
        """FIN."""
        if isinstance(connection.session, Session):
            self._websocket.ended(connection)
        else:
            self._http.ended(connection)

    def drained(self, connection: Connection) -> None:
        """The peer has taken everything."""
        session = connection.session
        if isinstance(session, Session):
            self._websocket.drained(connection)
        elif isinstance(session, Member):
            self._connections.listen(connection)
            self._hub.drained(session)
        else:
            self._http.drained(connection)

    def resumed(self, connection: Connection) -> None:
        """Its turn has come."""
        if isinstance(connection.session, Session):
            self._websocket.resumed(connection)
        else:
            self._http.resumed(connection)

    def faulted(self, connection: Connection) -> None:
        """A bug of ours: 1011, or 500 if no part of an answer has been written; of events, only the end."""
        if isinstance(connection.session, Session):
            self._websocket.close(connection, Reason.INTERNAL_ERROR, text=Reason.INTERNAL_ERROR.sentence)
        elif connection.phase in _HTTP:
            self._give_back(connection)
            connection.session = None
            wire = b"" if connection.phase is Phase.STREAM else _EXCUSE
            self._connections.finish(connection, Reason.INTERNAL_ERROR, wire)

    def closed(self, connection: Connection, reason: Reason) -> None:
        """Gone: give back whatever it held."""
        self._give_back(connection)
        self._notes.closed(connection, reason)
        self._admission.release(connection.address)

    def _give_back(self, connection: Connection) -> None:
        session = connection.session
        if isinstance(session, Session):
            self._websocket.release(connection)
        elif isinstance(session, Hold):
            self._hub.release(session)
        elif isinstance(session, Member):
            self._hub.leave(session)
        elif isinstance(session, Upload | LongHead):
            self._http.intake.unfinished.gone(session)

    def _linger(self, connection: Connection, data: bytes) -> None:
        """What comes after the end is dropped, so that no RST destroys our last words; so much of it, and no more."""
        connection.spent += len(data)
        if connection.spent >= LINGER_BYTES:
            self._connections.pause(connection)

    def _serving_expired(self, connection: Connection) -> None:
        if isinstance(connection.session, Session):
            self._websocket.serving_expired(connection)
        else:
            self._http.serving_expired(connection)

    def _held_expired(self, connection: Connection) -> None:
        hold = connection.session
        assert isinstance(hold, Hold), "HELD is only entered with a hold"
        self._http.answer_held(hold)


def _below(connection: Connection, data: bytes = b"") -> None:
    raise AssertionError(f"{connection.phase.name} is attended to before its bytes reach the edge")
