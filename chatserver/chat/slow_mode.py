"""Slow mode: in some rooms a user may publish only once in a number of seconds.

Owns: when each user may publish again in such rooms. May not: read a policy, which is given.
"""

from collections.abc import Callable

import trio

from chatserver.chat.policy import MODERATE
from chatserver.chat.principal import Principal
from chatserver.meters import KeyedBuckets


class SlowMode:
    """`seconds_of` returns the pause of a room, 0 for none. Moderators are exempt."""

    def __init__(self, seconds_of: Callable[[str], float] = lambda room: 0.0) -> None:
        self._seconds_of = seconds_of
        self._pauses: KeyedBuckets[tuple[int, str]] = KeyedBuckets(1, burst=1)  # by user and room

    def take(self, principal: Principal, room: str) -> float:
        """Count a message. Returns 0.0 if it may be published now, else the seconds until it may."""
        seconds = self._seconds_of(room)
        if not seconds or principal.may(MODERATE, room):
            return 0.0
        key, now = (principal.number, room), trio.current_time()
        left = self._pauses.wait(key, now)
        if not left:
            self._pauses.lower(key, seconds, now)
        return left

    def sweep(self) -> None:
        """Forget users who may publish again; called once a second."""
        self._pauses.sweep(trio.current_time())
