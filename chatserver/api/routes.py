"""The table of routes: which handler answers a request.

Owns: the table of paths and methods, the check of a room's name, and the handshake of a WebSocket. May not: answer
anything else but 404, 405 and a preflight itself, or decide which origins are allowed; origins.py does, and is called
here before the path is looked at.
"""

from collections.abc import Callable, Mapping
from functools import partial

from chatserver.api.answers import Answer, Response, Upgrade
from chatserver.api.dialect import Dialect
from chatserver.api.identities import set_cookie
from chatserver.api.moderation import ModerationHandlers
from chatserver.api.monitoring import MonitoringHandlers
from chatserver.api.origins import Caller, OriginPolicy, caller_of, check_foreign, preflight_fields
from chatserver.api.polls import PollHandlers
from chatserver.api.read_markers import ReadMarkerHandlers
from chatserver.api.records import RecordHandlers
from chatserver.api.request import Request
from chatserver.api.rooms import RoomHandlers
from chatserver.api.search import SearchHandlers
from chatserver.api.services import Services
from chatserver.api.sessions import SessionHandlers
from chatserver.api.static import StaticFiles
from chatserver.api.streams import StreamHandlers
from chatserver.chat.policy import READ
from chatserver.log.sanctions import EVERYWHERE
from chatserver.protocol.errors import Headers, HttpError
from chatserver.protocol.upgrade import accept_upgrade
from chatserver.protocol.validation import check_room
from chatserver.reasons import ErrorCode

#: Slashes at which a path is split: the longest one of ours has six.
MAX_SPLITS = 7
#: The requests that may be about all rooms.
FOR_ALL_ROOMS = (f"/rooms/{EVERYWHERE}/sanctions", f"/rooms/{EVERYWHERE}/kick")

_Handler = Callable[..., Answer]
_Methods = dict[str, _Handler]


class Routes:
    """All routes. `operators` is the policy of the operators' listener; with one, /metrics is served only there."""

    def __init__(
        self, services: Services, *, searches: SearchHandlers, dialects: Mapping[str, Dialect],
        monitoring: MonitoringHandlers, policy: OriginPolicy, operators: OriginPolicy | None,
    ) -> None:  # fmt: skip
        self._policy = policy
        self._operators = operators
        self._identities = services.identities
        self._static = StaticFiles()
        self.polls = polls = PollHandlers(services)
        rooms = RoomHandlers(services)
        streams = StreamHandlers(services)
        records = RecordHandlers(services)
        moderation = ModerationHandlers(services)
        markers = ReadMarkerHandlers(services)
        sessions = SessionHandlers(services)
        self._services = services
        self._service: dict[str, _Methods] = {
            "/healthz": _readable(monitoring.health),
            "/readyz": _readable(monitoring.readiness),
            "/metrics": _readable(monitoring.metrics),
        }
        self._exact: dict[str, _Methods] = {
            **self._service,
            "/poll": _readable(polls.poll_many),
            "/rooms": _readable(rooms.list_rooms),
            "/unread": _readable(markers.show_unread),
            "/search": _readable(searches.search),
            "/audit": _readable(moderation.read_audit),
            "/session": {**_readable(sessions.show), "POST": sessions.make, "DELETE": sessions.end},
        }
        if operators is not None:
            del self._exact["/metrics"]
        for path, dialect in dialects.items():
            self._exact[path] = {"GET": partial(self._open, dialect)}
        #: by the path after `/rooms/{room}/`; None is the room itself
        self._in_room: dict[str | None, _Methods] = {
            None: _readable(rooms.show_room),
            "messages": {**_readable(polls.read), "POST": records.publish},
            "events": _readable(streams.events),
            "members": _readable(rooms.show_members),
            "read": {"PUT": markers.put},
            "typing": {"POST": markers.type},
            "sanctions": {**_readable(moderation.list_sanctions), "POST": moderation.sanction},
            "kick": {"POST": moderation.kick},
        }
        #: the same, where the path ends with the name of one item in the room
        self._of_room: dict[str, _Methods] = {
            "sanctions": {"DELETE": moderation.lift},
            "messages": {"PATCH": records.edit, "DELETE": records.delete},
        }
        self._reaction: _Methods = {"PUT": records.react, "DELETE": records.react}

    def handle(self, request: Request) -> Answer:
        """The answer. Raises HttpError and MessageError."""
        head = request.head
        path = head.path
        operators = self._operators if request.operators else None
        caller = caller_of(head.headers, operators or self._policy, secure=request.secure)
        if path in self._service:
            request.foreign = True  # monitoring is public, and a token in the request may be meant for a proxy
        elif caller is Caller.FOREIGN and path not in self._static:
            request.foreign = True
            check_foreign(head)
        methods, names = self._find(path) if operators is None else (self._service.get(path), ())
        if methods is None:
            raise HttpError(ErrorCode.NOT_FOUND, f"there is nothing at {path[:80]}")
        if caller is Caller.ALLOWED and head.method == "OPTIONS":
            return Response(204, [], headers=preflight_fields(methods))  # the page cannot read why one is refused
        if names and not path.startswith(FOR_ALL_ROOMS):
            check_room(names[0])
        handler = methods.get(head.method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            message = f"{head.method[:20]} is not for this path; allowed: {allowed}"
            raise HttpError(ErrorCode.METHOD_NOT_ALLOWED, message, headers=(("Allow", allowed),))
        return handler(request, *names)

    def _find(self, path: str) -> tuple[_Methods | None, tuple[str, ...]]:
        """The methods of a path, and the names in it."""
        methods = self._exact.get(path)
        if methods is not None:
            return methods, ()
        match path.split("/", MAX_SPLITS):
            case ["", "rooms", room] if room:
                return self._in_room[None], (room,)
            case ["", "rooms", room, kind] if room and kind in self._in_room:
                return self._in_room[kind], (room,)
            case ["", "rooms", room, kind, thing] if room and thing and kind in self._of_room:
                return self._of_room[kind], (room, thing)
            case ["", "rooms", room, "messages", offset, "reactions", emoji] if room:
                return self._reaction, (room, offset, emoji)
        return (_readable(self._static.serve) if path in self._static else None), ()

    def _open(self, dialect: Dialect, request: Request) -> Upgrade:
        principal, token, fresh = self._identities.opening(
            request.head, request.network, vouched=request.vouched, secure=request.secure
        )
        headers: Headers = (set_cookie(token, secure=request.secure),) if fresh else ()
        wire = accept_upgrade(request.head, headers=headers, subprotocol=dialect.subprotocol)
        self._services.check_sanctions(principal, READ, EVERYWHERE)
        return Upgrade(wire + dialect.hello(principal, token), principal, dialect)


def _readable(handler: _Handler) -> _Methods:
    """The methods of a readable path: GET, and HEAD with the same handler."""
    return {"GET": handler, "HEAD": handler}
