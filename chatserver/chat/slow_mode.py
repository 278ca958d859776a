"""Slow mode: in some rooms a user may publish only once in a number of seconds.

Owns: when each user may publish again in such rooms. May not: read a policy, which is given.
"""

from collections.abc import Callable

import trio

from chatserver.chat.policy import MODERATE
from chatserver.chat.principal import Principal
from chatserver.log.interface import KEY_LIFETIME_MS, MESSAGE, Draft
from chatserver.meters import sweep

#: Seconds in which a message with the same key is a retry: half as long as the log remembers keys.
RETRY_SECONDS = KEY_LIFETIME_MS / 2000
#: Pauses that are remembered, at some 300 bytes each; beyond that, an old one ends early.
MAX_PAUSES = 10_000


class SlowMode:
    """`seconds_of` returns the pause of a room, 0 for none. Moderators are exempt."""

    def __init__(self, seconds_of: Callable[[str], float]) -> None:
        self._seconds_of = seconds_of
        #: by user and room, mostly the oldest first: the time of the last message, the end of its pause, its key, and
        #: whether that was sent again
        self._last: dict[tuple[str, str], tuple[float, float, str | None, bool]] = {}

    def take(self, principal: Principal, room: str, key: str | None = None) -> float:
        """Count a message. Returns 0.0 if it may be published now, else the seconds until it may.

        A retry of the last message, which has its key, may be sent at any time: its answer may have been lost.
        """
        seconds = self._seconds_of(room)
        if not seconds or principal.may(MODERATE, room):
            return 0.0
        place, now = (principal.author.id, room), trio.current_time()
        sent, ends, last_key, _ = self._last.get(place, (now, now, None, False))
        if now < ends:
            if key is None or key != last_key or now >= sent + RETRY_SECONDS:
                return ends - now
            self._last[place] = sent, ends, key, True
            return 0.0
        self._last.pop(place, None)
        self._last[place] = now, now + seconds, key, False
        if len(self._last) > MAX_PAUSES:
            del self._last[next(iter(self._last))]
        return 0.0

    def give_back(self, draft: Draft) -> None:
        """A record was not stored: if it is a message, which was counted, its user may publish.

        Not if it may be a retry: the message before may be stored. It may be sent again with its key in any case.
        """
        place = draft.user_id, draft.room
        if draft.kind is MESSAGE and place in self._last and not self._last[place][3]:
            del self._last[place]

    def sweep(self) -> None:
        """Forget users who may publish again; called once a second."""
        now = trio.current_time()
        sweep(self._last, lambda last: last[1] <= now)
