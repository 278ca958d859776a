"""Results of searches, for a few seconds: many people look for the same thing when something has happened.

Owns: which results are kept, and when they are dropped. May not: know who asked; results are of all rooms, and what
somebody may not read is taken out above.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from chatserver.log.index import Found, Question

#: Results that are kept. With MAX_HITS of the longest messages each, 13 MB; of usual ones 2 MB.
MAX_RESULTS = 64
#: Seconds for which one is given out: so much later is a new message found.
RESULT_LIFETIME = 3.0

#: A question, and the place behind which it is asked.
Part: TypeAlias = tuple[Question, int | None]


class _Kept(NamedTuple):
    found: Found
    until: float
    rooms: frozenset[str]


class ResultCache:
    """Results by what was asked."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[Part, _Kept] = {}  # the oldest first
        self.generation = 0  # how often something was taken out of a room
        self.forgotten: Callable[[], None] = lambda: None  # told of that

    def get(self, part: Part) -> Found | None:
        """What was found for it a moment ago."""
        kept = self._kept.get(part)
        return None if kept is None or kept.until <= self._clock() else kept.found

    def put(self, part: Part, found: Found, generation: int) -> None:
        """Keep a result that was asked for in this generation: later, it may have what is gone from the log by now."""
        if generation != self.generation:
            return
        self._kept.pop(part, None)
        self._kept[part] = _Kept(
            found, self._clock() + RESULT_LIFETIME, frozenset(hit.record.room for hit in found.hits)
        )  # fmt: skip
        while len(self._kept) > MAX_RESULTS:
            del self._kept[next(iter(self._kept))]

    def forget(self, rooms: Iterable[str]) -> None:
        """Something in these rooms was edited, deleted, or removed by retention."""
        self.generation += 1
        self.forgotten()
        gone = frozenset(rooms)
        self._kept = {part: kept for part, kept in self._kept.items() if gone.isdisjoint(kept.rooms)}

    def sweep(self) -> None:
        """Forget what is too old."""
        now = self._clock()
        self._kept = {part: kept for part, kept in self._kept.items() if kept.until > now}

    def __len__(self) -> int:
        return len(self._kept)
