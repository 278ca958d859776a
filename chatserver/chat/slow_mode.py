"""Slow mode: in some rooms a user may publish once in so many seconds.

Owns: when each user has published last where that matters. May not: read a policy or a clock; both are given.
"""

from collections.abc import Callable

import trio

from chatserver.chat.principal import Action, Principal

#: Users and rooms remembered; beyond them the one that published first is forgotten, and may be early for once.
MAX_REMEMBERED = 50_000


def _never(room: str) -> float:
    return 0.0


class SlowMode:
    """`seconds_of` tells a room's pause, 0 for none. Moderators are exempt."""

    def __init__(
        self, seconds_of: Callable[[str], float] = _never, clock: Callable[[], float] = trio.current_time
    ) -> None:  # fmt: skip
        self._seconds_of = seconds_of
        self._clock = clock
        self._until: dict[tuple[int, str], float] = {}

    def take(self, principal: Principal, room: str) -> float:
        """Count a message: 0.0 when it may be published now, else the seconds until it may."""
        seconds = self._seconds_of(room)
        if not seconds or principal.may(Action.MODERATE, room):
            return 0.0
        now = self._clock()
        key = principal.number, room
        left = self._until.get(key, now) - now
        if left > 0:
            return left
        self._until.pop(key, None)  # so that it is the youngest
        if len(self._until) >= MAX_REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[key] = now + seconds
        return 0.0

    def sweep(self) -> None:
        """Forget the users who may publish again; called once a second."""
        if self._until:
            now = self._clock()
            self._until = {key: until for key, until in self._until.items() if until > now}

    def __len__(self) -> int:
        return len(self._until)
