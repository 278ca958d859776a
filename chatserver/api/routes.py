"""Which handler answers a request.

Owns: the table of paths and methods. May not: answer anything but 404 and 405 itself.
"""

from collections.abc import Callable

from chatserver.api.answers import Answer, Pending, Response, Upgrade
from chatserver.api.guests import set_cookie, token_in
from chatserver.api.request import Request
from chatserver.api.rooms import RoomHandlers, refusal
from chatserver.api.services import Services
from chatserver.api.static import StaticFiles
from chatserver.chat.identity import new_token, number_of
from chatserver.protocol.errors import HttpError
from chatserver.protocol.response import json_body
from chatserver.protocol.upgrade import accept_upgrade
from chatserver.reasons import ErrorCode

#: Seconds after which a client should look again while the server is starting or draining.
READY_RETRY = 2.0

_Handler = Callable[..., Answer | Pending]
_Methods = dict[str, _Handler]


class Routes:
    """The whole HTTP surface. `metrics` makes the text of /metrics, `ready` tells whether to send traffic here.

    `secure` says that all of it goes over TLS of ours.
    """

    def __init__(
        self, services: Services, *, metrics: Callable[[], tuple[bytes, str]], ready: Callable[[], bool], echo: bool,
        secure: bool,
    ) -> None:  # fmt: skip
        self._secure = secure
        self._secret = services.log.identity.secret
        self._metrics = metrics
        self._ready = ready
        self._static = StaticFiles(secure=secure)
        rooms = RoomHandlers(services)
        self._exact: dict[str, _Methods] = {
            "/ws": {"GET": self._open},
            "/poll": _readable(rooms.poll_many),
            "/rooms": _readable(rooms.list_rooms),
            "/healthz": _readable(self._health),
            "/readyz": _readable(self._readiness),
            "/metrics": _readable(self._show_metrics),
        }
        if echo:
            self._exact["/echo"] = {"GET": self._open_echo}
        #: by what follows `/rooms/{room}`; None is the room itself
        self._in_room: dict[str | None, _Methods] = {
            None: _readable(rooms.show_room),
            "messages": {**_readable(rooms.read), "POST": rooms.publish},
            "events": _readable(rooms.events),
            "members": _readable(rooms.show_members),
        }

    def handle(self, request: Request) -> Answer | Pending:
        """The answer, or a coroutine for it. Raises HttpError and MessageError."""
        path = request.head.path
        if path.startswith("/rooms/"):
            name, slash, rest = path[7:].partition("/")
            methods = self._in_room.get(rest if slash else None)
            if methods is not None and name:
                return self._choose(methods, request)(request, name)
        methods = self._exact.get(path)
        if methods is None and path in self._static:
            methods = _readable(self._static.serve)
        if methods is None:
            raise HttpError(ErrorCode.NOT_FOUND, f"there is nothing at {path[:80]}")
        return self._choose(methods, request)(request)

    def _choose(self, methods: _Methods, request: Request) -> _Handler:
        method = request.head.method
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            raise HttpError(
                ErrorCode.METHOD_NOT_ALLOWED, f"{method[:20]} is not for this path; allowed: {allowed}",
                headers=(("Allow", allowed),),
            )  # fmt: skip
        return handler

    # -- WebSocket --------------------------------------------------------------------------------------------------

    def _open(self, request: Request) -> Upgrade:
        token = token_in(request.head)
        if token is not None:
            return Upgrade(accept_upgrade(request.head), number_of(token, self._secret), token)
        token = new_token()
        wire = accept_upgrade(request.head, headers=(set_cookie(token, secure=self._secure),))
        return Upgrade(wire, number_of(token, self._secret), token)

    def _open_echo(self, request: Request) -> Upgrade:
        return Upgrade(accept_upgrade(request.head), request.user, "", echo=True)

    # -- the service itself -----------------------------------------------------------------------------------------

    def _health(self, request: Request) -> Response:
        request.parameters()
        return _status("ok")

    def _readiness(self, request: Request) -> Response:
        request.parameters()
        if self._ready():
            return _status("ready")
        return refusal(ErrorCode.DRAINING, "the server is starting or stopping", READY_RETRY)

    def _show_metrics(self, request: Request) -> Response:
        request.parameters()
        body, content_type = self._metrics()
        return Response(200, body, content_type)


def _readable(handler: _Handler) -> _Methods:
    """What can be asked for can be asked about."""
    return {"GET": handler, "HEAD": handler}


def _status(status: str) -> Response:
    return Response(200, json_body({"status": status}))
