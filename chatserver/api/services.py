"""The parts that handlers use, and the rules that HTTP and WebSocket share: rates, empty rooms, wording of refusals.

Owns: these rules, and the author of a draft. May not: answer.
"""

from dataclasses import dataclass

import trio

from chatserver.api.encoder import WireEncoder
from chatserver.api.identities import Identities
from chatserver.api.pages import Pages
from chatserver.api.pipelines.results import ResultCache
from chatserver.api.request import Request
from chatserver.chat.audit import AuditTrail
from chatserver.chat.hub import Hub
from chatserver.chat.moderation import Moderation, Refusal
from chatserver.chat.policy import MODERATE, READ, WRITE, Action
from chatserver.chat.principal import Principal
from chatserver.chat.read_markers import ReadMarkers
from chatserver.chat.registry import RoomsFullError
from chatserver.chat.slow_mode import SlowMode
from chatserver.log.interface import DELETE, EDIT, REACTION, Draft, Log, LogBusy, LogError, RefusalReason, Refused
from chatserver.meters import KeyedBuckets
from chatserver.protocol.client_messages import Change, Edit, Publish, React
from chatserver.protocol.errors import MessageError, too_often
from chatserver.reasons import ErrorCode
from chatserver.settings.fields import Settings

#: Seconds of the rate that may be spent in one burst: people paste three lines and then think.
BURST_SECONDS = 2.0
#: Users who may publish at full rate from one network, since a new cookie makes a new user. 300 people behind one
#: address have 3 messages a second each.
NETWORK_SHARE = 50
#: Users whose read markers one network may move at the rate of publishing, and seconds of that in one burst. An office
#: of 300 moves as many with each message. Each new cookie is a user with new markers, and a million of them push out
#: those of everybody else.
MARKERS_SHARE, MARKERS_BURST = 25, 10.0
#: Guests of one network who may sign out: a second, and in one burst. Any text is a guest's token, and the sign-out of
#: a stolen one is forgotten after 10,000 others.
SIGN_OUT_RATE, SIGN_OUT_BURST = 1.0, 100.0
#: Seconds after which a client should try again when the log did not accept its message.
LOG_RETRY = 1.0


class WriteLimits:
    """The publish rate of a user, `NETWORK_SHARE` times that for all users of a network, and what else it may store.

    A publish rate of 0 limits neither publishing nor read markers. With --shared it is a `SharedWriteLimits`.
    """

    def __init__(self, settings: Settings) -> None:
        rate = settings.publish_rate
        self.is_limited = rate > 0
        burst = max(rate * BURST_SECONDS, 1.0)
        self.users: KeyedBuckets[int] = KeyedBuckets(rate, burst=burst)
        self.networks: KeyedBuckets[str] = KeyedBuckets(rate * NETWORK_SHARE, burst=burst * NETWORK_SHARE)
        markers = rate * MARKERS_SHARE
        # Of networks: moves of read markers, and sign-outs of guests, whatever the rate of publishing.
        self.markers: KeyedBuckets[str] = KeyedBuckets(markers, burst=max(markers * MARKERS_BURST, 1.0))
        self.sign_outs: KeyedBuckets[str] = KeyedBuckets(SIGN_OUT_RATE, burst=SIGN_OUT_BURST)

    def take(self, principal: Principal) -> float:
        """Count one message. 0.0 when both rates allow it, else the seconds until they do."""
        if not self.is_limited:
            return 0.0
        now = trio.current_time()
        if wait := self.users.take(principal.number, now):
            return wait
        wait = self.networks.take(principal.network, now)
        if wait:
            self.users.give_back(principal.number)
        return wait

    def sweep(self) -> None:
        for buckets in (self.users, self.networks, self.markers, self.sign_outs):
            buckets.sweep(trio.current_time())


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    hub: Hub
    log: Log
    identities: Identities
    pages: Pages
    encoder: WireEncoder
    write_limits: WriteLimits
    markers: ReadMarkers
    search_results: ResultCache
    settings: Settings
    moderation: Moderation
    slow_mode: SlowMode
    audit: AuditTrail
    refusals: dict[ErrorCode, int]  # how many so far, for operators

    def check(self, principal: Principal, action: Action, room: str) -> None:
        """Refuse an action that a user may not do in a room, or not now. Raises MessageError.

        The refusal does not depend on whether the room exists; call this before looking anything up.
        """
        if not principal.may(action, room):
            raise _not_allowed(principal, action, room)
        if self.moderation.concerns(principal):
            self.check_sanctions(principal, action, room)

    def may_read(self, principal: Principal, room: str) -> bool:
        """Whether `check` would allow reading."""
        return principal.may(READ, room) and self.moderation.sanction_on(principal, READ, room) is None

    def check_reader(self, request: Request, *rooms: str) -> None:
        """Refuse a request to read rooms. Raises MessageError."""
        for room in rooms:
            self.check(request.reader, READ, room)

    def check_reader_again(self, request: Request, *rooms: str) -> None:
        """The same after a wait: its user may have been banned, or have signed out, meanwhile."""
        request.check_again()
        self.check_reader(request, *rooms)

    def lists(self, principal: Principal, room: str) -> bool:
        """Whether a list of rooms includes this one for a user."""
        return principal.access.policies.of(room).list or self.may_read(principal, room)

    def check_sanctions(self, principal: Principal, action: Action, room: str) -> None:
        """Refuse an action that a sanction forbids; for "*", only a ban from all rooms does. Raises MessageError."""
        refusal = self.moderation.check(principal, action, room)
        if refusal is not None:
            raise _sanctioned(refusal, room)

    def refusal_to_write(self, principal: Principal, room: str) -> MessageError | None:
        """The error that a message would get from `check` now; None: the user may write. Counts nothing."""
        if not principal.may(WRITE, room):
            return _not_allowed(principal, WRITE, room)
        sanction = self.moderation.sanction_on(principal, WRITE, room)
        return None if sanction is None else _sanctioned(self.moderation.refusal(sanction), room)

    def count_record(self, principal: Principal) -> None:
        """Count a record against --publish-rate. Raises MessageError (429)."""
        _check_rate(self.write_limits.take(principal))

    def count_marker(self, principal: Principal) -> None:
        """Count a move of a read marker against the rate of its network. Raises MessageError (429)."""
        wait = self.write_limits.markers.take(principal.network, trio.current_time())
        _check_rate(wait, "read markers from this network")

    def count_sign_out(self, principal: Principal) -> None:
        """Count a sign-out like a record, and that of a guest also against its network's rate. Raises MessageError."""
        self.count_record(principal)
        if principal.is_guest:
            wait = self.write_limits.sign_outs.take(principal.network, trio.current_time())
            _check_rate(wait, "sign-outs from this network")

    def draft_of(self, principal: Principal, record: Publish | Change) -> Draft:
        """The draft of a record by a principal who may write. Raises MessageError.

        Replies, and reactions with their count, tell something about the message that they name. Slow mode counts no
        malformed message, so that it does not take the place of the next.
        """
        face, room = principal.author, record.room
        if record.as_user is not None and record.as_user != face.id:
            raise MessageError(ErrorCode.ANOTHER_USER, "as_user names another user")
        if type(record) is Publish:  # `isinstance` of a struct of another type costs 1,000 instructions
            if record.reply_to is not None:
                self.check(principal, READ, room)
            _check_rate(self.slow_mode.take(principal, room, record.key))
            return Draft(
                room, face.id, face.name, record.text, record.key, principal.network, target=record.reply_to or 0,
                mentions=record.mentions or (),
            )  # fmt: skip
        text = record.text if type(record) is Edit else ""
        common = (room, face.id, face.name, text, record.key, principal.network)
        if type(record) is React:
            self.check(principal, READ, room)
            return Draft(*common, REACTION, record.offset, emoji=record.emoji, on=record.on)
        window_ms, is_blind = int(self.settings.edit_window * 1000), not principal.may(READ, room)
        if type(record) is Edit:
            return Draft(*common, EDIT, record.offset, window_ms=window_ms, is_blind=is_blind)
        may_moderate = principal.may(MODERATE, room)
        return Draft(*common, DELETE, record.offset, window_ms=window_ms, as_moderator=may_moderate, is_blind=is_blind)

    def check_empty_rooms(self, count: int) -> None:
        """Refuse too many never-written rooms for one connection or poll. Raises MessageError.

        Each made-up name costs a room in memory. The limit never depends on what other clients do.
        """
        most = self.settings.max_empty_rooms
        if count > most:
            sentence = f"{most} rooms without messages are the most that you may be in: write in one of them first"
            raise MessageError(ErrorCode.TOO_MANY_ROOMS, sentence)


def check_signed_in(principal: Principal) -> None:
    """Refuse a guest where guests may do nothing. Raises MessageError."""
    if principal.is_guest and principal.access.closed_to_guests:
        raise MessageError(ErrorCode.UNAUTHENTICATED, "guests may do nothing here; sign in")


_VERBS = {READ: "read", WRITE: "write in", MODERATE: "moderate"}


def _not_allowed(principal: Principal, action: Action, room: str) -> MessageError:
    what = f"{_VERBS[action]} {room}"
    if principal.is_guest and principal.access.sign_in:
        return MessageError(ErrorCode.UNAUTHENTICATED, f"sign in to {what}", room=room)
    return MessageError(ErrorCode.FORBIDDEN, f"you may not {what}", room=room)


def _sanctioned(refusal: Refusal, room: str) -> MessageError:
    return MessageError(ErrorCode.FORBIDDEN, refusal.sentence, wait=refusal.seconds_left, room=room)


def _check_rate(wait: float, what: str = "messages") -> None:
    if wait:
        raise MessageError(ErrorCode.RATE_LIMITED, too_often(wait, what), wait=wait)


class SearchFailedError(LogError):
    """The question took too long, or a step of the search cannot be done now."""


_REFUSALS = {
    RefusalReason.MISSING: ErrorCode.NOT_FOUND,
    RefusalReason.DELETED: ErrorCode.GONE,
    RefusalReason.NOT_AUTHOR: ErrorCode.FORBIDDEN,
    RefusalReason.TOO_LATE: ErrorCode.FORBIDDEN,
    RefusalReason.TOO_MANY_EMOJI: ErrorCode.BAD_FIELD,
    RefusalReason.TOO_MANY_REACTIONS: ErrorCode.BAD_FIELD,
}


def log_failure(error: LogError) -> tuple[ErrorCode, str, float | None]:
    """Code, message and seconds to wait for what needed the log and failed, except for a record.

    The text of `error` is for the operator and stays in our log, since it names paths and disks.
    """
    sentence = "the log cannot be used now; try again"
    if isinstance(error, RoomsFullError):
        sentence = "no more rooms may be open now; try again"
    elif isinstance(error, SearchFailedError):
        sentence = "the search took too long or failed; look for rarer words, or in one room, or try again"
    return ErrorCode.UNAVAILABLE, sentence, LOG_RETRY


def not_stored(error: LogError) -> tuple[ErrorCode, str, float | None]:
    """The same for a record that was not stored, or may not have been."""
    if isinstance(error, Refused):
        return _REFUSALS[error.reason], error.reason.value, None
    sentence = "the message could not be stored; send it again with the same key"
    if isinstance(error, LogBusy):
        sentence = "the server is busy; the message was not stored, send it again"
    return ErrorCode.UNAVAILABLE, sentence, LOG_RETRY
