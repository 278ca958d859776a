"""Audit entries that no request waits for, stored a group at a time.

Owns: the entries that are not stored yet, and the rate limits on them. May not: decide what is noted.

A moderator's action that changes a table is not noted here: its entry is stored in the transaction of that change.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice

import structlog
import trio

from chatserver.chat.principal import Principal
from chatserver.log.audit import Audit, AuditEntry
from chatserver.log.interface import Draft, LogError
from chatserver.meters import KeyedBuckets

#: Entries that may wait to be stored, at most half of them minor ones; while a disk hangs, further ones are lost.
MAX_WAITING = 1_000
#: Seconds between two groups.
GROUP_INTERVAL = 1.0
#: Seconds that the last group may take when the server stops.
LAST_GROUP_DEADLINE = 2.0
#: Refusals and other minor entries that one network may cause: burst, and rate (1/s).
REFUSAL_BURST, REFUSAL_RATE = 5, 1 / 60
#: Actions of one moderator whose entries are not minor: burst, and rate (1/s). Kicks of nobody and equal mutes are
#: free: 100,000 of them, which displaced all other entries, took five minutes.
ACTION_BURST, ACTION_RATE = 1_000, 1 / 60

_log = structlog.get_logger("chatserver.audit")


def write_line(entry: AuditEntry) -> None:
    _log.info(
        entry.action, by=entry.by_id, peer=entry.network, room=entry.room, target=entry.target, detail=entry.detail
    )


def _log_failure(error: LogError) -> None:
    _log.warning("audit_failed", reason=type(error).__name__, detail=str(error))


class AuditTrail:
    """See the module; `run` stores them."""

    def __init__(self, *, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._waiting: deque[AuditEntry] = deque()
        self._tried = 0  # how many of these, from the first, may be stored already, by an attempt that failed
        self._idle = trio.lowlevel.ParkingLot()  # `run`, while no entry waits
        self._refusals: KeyedBuckets[str] = KeyedBuckets(REFUSAL_RATE, burst=REFUSAL_BURST)
        self._actions: KeyedBuckets[str] = KeyedBuckets(ACTION_RATE, burst=ACTION_BURST)  # by the moderator's id
        self._lost = 0  # entries for which there was no place, until they are reported

    def entry(
        self, principal: Principal, action: str, room: str, target: str = "", detail: str = "", target_name: str = ""
    ) -> AuditEntry:
        """An entry for an action of a moderator, now."""
        by = principal.face.id, principal.face.name
        minor = self._is_too_much(principal.face.id)
        return AuditEntry(self._wall_ms(), *by, principal.network, action, room, target, detail, target_name, minor)

    def _is_too_much(self, moderator: str) -> bool:
        return self._actions.take(moderator, trio.current_time()) > 0

    def note_deletion(self, draft: Draft, detail: str = "") -> None:
        """Note that a moderator has deleted a message. If the disk did not confirm it, `detail` says so."""
        by = draft.user_id, draft.user_name, draft.network
        minor = self._is_too_much(draft.user_id)
        entry = AuditEntry(self._wall_ms(), *by, "delete", draft.room, str(draft.target), detail, minor=minor)
        write_line(entry)
        self._add(entry, MAX_WAITING)

    def store_again(self, entry: AuditEntry, error: LogError) -> None:
        """Store an entry whose first attempt has failed. If it is stored after all, and others wait, it is twice."""
        _log_failure(error)
        self._tried = self._tried if self._waiting else 1
        self._add(entry, MAX_WAITING)

    def note_refusal(self, principal: Principal, action: str, room: str) -> None:
        """Note an attempt at what only moderators may do; rate-limited, since any client can cause it."""
        self._note_minor(principal, "refused", room, detail=action)

    def note_search(self, principal: Principal, user: str, room: str) -> None:
        """Note a search for the messages of one user; rate-limited too."""
        self._note_minor(principal, "search", room, user)

    def _note_minor(self, principal: Principal, action: str, room: str, target: str = "", detail: str = "") -> None:
        if not self._refusals.take(principal.network, trio.current_time()):
            by = principal.face.id, principal.face.name, principal.network
            entry = AuditEntry(self._wall_ms(), *by, action, room, target, detail, minor=True)
            self._add(entry, MAX_WAITING // 2)

    def _add(self, entry: AuditEntry, most: int) -> None:
        if len(self._waiting) < most:
            self._waiting.append(entry)
            self._idle.unpark()
        else:
            self._lost += 1

    async def run(self, audit: Audit) -> None:
        """Store entries until cancelled, then those that are left."""
        try:
            while True:
                if not self._waiting:
                    await self._idle.park()
                await trio.sleep(GROUP_INTERVAL)
                with trio.CancelScope(shield=True):  # a cancelled group may be stored, and then is again below
                    await self._store(audit)
        except trio.Cancelled:
            with trio.move_on_after(LAST_GROUP_DEADLINE, shield=True):
                await self._store(audit)
            self._lost += len(self._waiting)
            self._report_lost()
            raise

    async def _store(self, audit: Audit) -> None:
        """Store the entries that wait, first those of an attempt that failed. If this one fails, they stay."""
        while self._waiting:
            again = self._tried > 0
            group = list(islice(self._waiting, self._tried or None))
            self._tried = len(group)
            try:
                await audit.add(group, again=again)
            except LogError as error:
                if not again:
                    _log_failure(error)
                return
            self._tried = 0
            for _ in group:
                self._waiting.popleft()
        self._report_lost()

    def _report_lost(self) -> None:
        if self._lost:
            _log.warning("audit_lost", entries=self._lost)
            self._lost = 0

    def sweep(self) -> None:
        """Forget networks and moderators whose rate limit is not in use; called once a second."""
        for buckets in (self._refusals, self._actions):
            buckets.sweep(trio.current_time())
