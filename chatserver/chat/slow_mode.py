"""Slow mode: in some rooms a user may publish only once in a number of seconds.

Owns: when each user may publish again in such rooms. May not: read a policy or a clock; both are given.
"""

import math
from collections.abc import Callable

import trio

from chatserver.chat.principal import Action, Principal

#: Pairs of user and room remembered; beyond that the oldest is forgotten, so that this user may publish early once.
MAX_REMEMBERED = 50_000
#: Pairs checked once a second, whether they may be forgotten: 0.2 ms.
SWEEP = 1_000


class SlowMode:
    """`seconds_of` returns the pause of a room, 0 for none. Moderators are exempt."""

    def __init__(
        self, seconds_of: Callable[[str], float] = lambda room: 0.0, clock: Callable[[], float] = trio.current_time
    ) -> None:  # fmt: skip
        self._seconds_of = seconds_of
        self._clock = clock
        self._until: dict[tuple[int, str], float] = {}
        self._unswept: list[tuple[int, str]] = []  # pairs that `sweep` has not checked yet

    def take(self, principal: Principal, room: str) -> float:
        """Count a message. Returns 0.0 if it may be published now, else the seconds until it may."""
        seconds = self._seconds_of(room)
        if not seconds or principal.may(Action.MODERATE, room):
            return 0.0
        now = self._clock()
        key = principal.number, room
        left = self._until.get(key, now) - now
        if left > 0:
            return left
        self._until.pop(key, None)  # so that it moves to the end, as the newest
        if len(self._until) >= MAX_REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[key] = now + seconds
        return 0.0

    def sweep(self) -> None:
        """Forget some of the users who may publish again; called once a second."""
        now = self._clock()
        self._unswept = self._unswept or list(self._until)
        for key in self._unswept[-SWEEP:]:
            if self._until.get(key, math.inf) <= now:
                del self._until[key]
        del self._unswept[-SWEEP:]

    def __len__(self) -> int:
        return len(self._until)
