"""Slow mode: in some rooms a user may publish only once in a number of seconds.

Owns: when each user may publish again in such rooms. May not: read a policy, which is given.
"""

from collections.abc import Callable

import trio

from chatserver.chat.policy import MODERATE
from chatserver.chat.principal import Principal
from chatserver.log.interface import KEY_LIFETIME_MS, Draft, Kind

#: Seconds in which a message with the same key is a retry: half as long as the log remembers keys.
RETRY_SECONDS = KEY_LIFETIME_MS / 2000
#: Pauses that are remembered, at some 300 bytes each; beyond that, the oldest ends early.
MAX_PAUSES = 10_000


class SlowMode:
    """`seconds_of` returns the pause of a room, 0 for none. Moderators are exempt."""

    def __init__(self, seconds_of: Callable[[str], float] = lambda room: 0.0) -> None:
        self._seconds_of = seconds_of
        #: by user and room, the oldest first: the time of the last message, the end of its pause, and its key
        self._last: dict[tuple[str, str], tuple[float, float, str | None]] = {}

    def take(self, principal: Principal, room: str, key: str | None = None) -> float:
        """Count a message. Returns 0.0 if it may be published now, else the seconds until it may.

        A retry of the last message, which has its key, may be sent at any time: its answer may have been lost.
        """
        seconds = self._seconds_of(room)
        if not seconds or principal.may(MODERATE, room):
            return 0.0
        place, now = (principal.author.id, room), trio.current_time()
        sent, ends, last_key = self._last.get(place, (now, now, None))
        if now < ends:
            is_retry = key is not None and key == last_key and now < sent + RETRY_SECONDS
            return 0.0 if is_retry else ends - now
        self._last.pop(place, None)
        self._last[place] = now, now + seconds, key
        if len(self._last) > MAX_PAUSES:
            del self._last[next(iter(self._last))]
        return 0.0

    def give_back(self, draft: Draft) -> None:
        """A record was not stored: if it is a message, which was counted, its user may publish."""
        if draft.kind is Kind.MESSAGE:
            self._last.pop((draft.user_id, draft.room), None)

    def sweep(self) -> None:
        """Forget users who may publish again; called once a second."""
        now = trio.current_time()
        self._last = {place: last for place, last in self._last.items() if last[1] > now}
