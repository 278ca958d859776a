"""Slow mode: in some rooms a user may publish only once in a number of seconds.

Owns: when each user may publish again in such rooms. May not: read a policy, which is given.
"""

from collections.abc import Callable

import trio

from chatserver.chat.policy import MODERATE
from chatserver.chat.principal import Principal
from chatserver.log.interface import KEY_LIFETIME_MS, Draft
from chatserver.meters import KeyedBuckets

#: Seconds in which a message with the same key is a retry: half as long as the log remembers keys.
RETRY_SECONDS = KEY_LIFETIME_MS / 2000
#: Keys that are remembered: a client tries again within seconds.
MAX_KEYS = 1_000


class SlowMode:
    """`seconds_of` returns the pause of a room, 0 for none. Moderators are exempt."""

    def __init__(self, seconds_of: Callable[[str], float] = lambda room: 0.0) -> None:
        self._seconds_of = seconds_of
        self._pauses: KeyedBuckets[tuple[str, str]] = KeyedBuckets(1, burst=1)  # by user and room
        self._keys: dict[tuple[str, str], str] = {}  # of the last message there, the oldest first

    def take(self, principal: Principal, room: str, key: str | None = None) -> float:
        """Count a message. Returns 0.0 if it may be published now, else the seconds until it may.

        A retry of the last message, which has its key, may be sent at any time: its answer may have been lost.
        """
        seconds = self._seconds_of(room)
        if not seconds or principal.may(MODERATE, room):
            return 0.0
        place, now = (principal.author.id, room), trio.current_time()
        left = self._pauses.wait(place, now)
        if left:
            is_retry = key is not None and key == self._keys.get(place) and seconds - left < RETRY_SECONDS
            return 0.0 if is_retry else left
        self._pauses.lower(place, seconds, now)
        self._keys.pop(place, None)
        if key is not None:
            self._keys[place] = key
            if len(self._keys) > MAX_KEYS:
                del self._keys[next(iter(self._keys))]
        return 0.0

    def give_back(self, draft: Draft) -> None:
        """A message that was counted was not stored, so its user may publish."""
        self._pauses.forget((draft.user_id, draft.room))

    def sweep(self) -> None:
        """Forget users who may publish again; called once a second."""
        self._pauses.sweep(trio.current_time())
