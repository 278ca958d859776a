"""Results of searches, kept for a few seconds: many users often search for the same words at one time.

Owns: which results are kept, and when they are dropped. May not: know who asked; results cover all rooms, and the
caller removes what the user may not read.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple

import trio

from chatserver.log.changes import take_text
from chatserver.log.index import Found, Question
from chatserver.log.interface import TEXTS_CHANGED, Record

#: Results that are kept: 13 MB if each has MAX_HITS of the longest messages, 2 MB with ordinary ones.
MAX_RESULTS = 64
#: Seconds for which a result is reused, and so the delay until a new message is found.
RESULT_LIFETIME = 3.0


class Lookup(NamedTuple):
    """A result that processes share, if there is one, and the generation to store another one with."""

    found: Found | None
    generation: bytes


class _Kept(NamedTuple):
    found: Found
    until: float
    rooms: frozenset[str]


class ResultCache:
    """Recent results by question. `texts_removed` is called when texts were removed."""

    def __init__(self, texts_removed: Callable[[], None] = lambda: None) -> None:
        self._kept: dict[Question, _Kept] = {}  # the oldest first
        self.generation = 0  # the number of times that messages were altered or removed
        self._texts_removed = texts_removed

    def get(self, question: Question) -> Found | None:
        kept = self._kept.get(question)
        return None if kept is None or kept.until <= trio.current_time() else kept.found

    def put(self, question: Question, found: Found, generation: int) -> None:
        """Keep a result that was asked for in `generation`. If that is past, the result may include removed texts."""
        if generation != self.generation:
            return
        self._kept.pop(question, None)
        self._kept[question] = _Kept(
            found, trio.current_time() + RESULT_LIFETIME, frozenset(hit.record.room for hit in found.hits)
        )
        while len(self._kept) > MAX_RESULTS:
            del self._kept[next(iter(self._kept))]

    def altered(self, records: Sequence[Record]) -> None:
        """Drop results, since these records have altered messages. Other processes' stay after a mere reaction."""
        self._drop({record.room for record in records})
        if take_text(records):
            self._texts_removed()

    def forget(self, rooms: Iterable[str]) -> None:
        """Drop results, since retention has removed messages in these rooms."""
        self._drop(frozenset(rooms))
        self._texts_removed()

    def _drop(self, rooms: Set[str]) -> None:
        self.generation += 1
        self._kept = {question: kept for question, kept in self._kept.items() if kept.rooms.isdisjoint(rooms)}

    def on_hints(self, hints: Iterable[str]) -> None:
        """Handle hints of another process: it may have edited or deleted messages, in any room.

        That process may be unable to tell the others, so the shared results are invalidated from here too.
        """
        if TEXTS_CHANGED in hints:
            self.generation += 1
            self._texts_removed()
            self._kept.clear()

    def sweep(self) -> None:
        now = trio.current_time()
        self._kept = {question: kept for question, kept in self._kept.items() if kept.until > now}
