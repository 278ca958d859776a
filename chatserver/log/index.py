"""Full-text search: which messages have the words of a question.

Owns: the question, the answer, the limits that all engines share, the order of matches. May not: know an engine, or who
asks; callers decide who may read a room.

The promises of an index:
- Every durable message in the index is found, and of those not yet in it the newest.
- Text that retention, an edit or a deletion has removed from the log is not found any more.
- Every question ends with an answer or an error soon after `SEARCH_BUDGET`.
"""

import math
from collections.abc import Iterable
from heapq import nlargest
from typing import Protocol

import msgspec

from chatserver.log.interface import Record, within_bytes
from chatserver.log.words import Matcher, Snippet

#: Words of one question, and characters in all of them; people type 3 words.
MAX_WORDS, MAX_QUESTION = 16, 256
#: The least length at which the last word also matches as a prefix: a tenth of all words begin with the same letter.
MIN_PREFIX = 2
#: Newest matches that are ranked; of a word in every second message, older ones are left out.
CANDIDATES = 250
#: Bytes of text that are ranked, the newest: as many as an answer holds, and one message more. For 8 KB of one-letter
#: words the thread keeps the interpreter lock, which the loop needs too, for 2 ms.
RANKED_BYTES = 72 * 1024
#: Messages outside the index that are searched directly, the newest of each room.
TAIL = 500
#: Best matches that one answer holds.
MAX_HITS = 50
#: Seconds that one question may take; a search for a word of a million messages takes a few milliseconds.
SEARCH_BUDGET = 0.1
#: Milliseconds in which the weight of a message halves: a month.
HALF_LIFE = 30 * 86_400_000
#: The least weight, so that an old message with the right words ranks above a new one with few.
MIN_WEIGHT = 0.25


class Question(msgspec.Struct, frozen=True, gc=False):
    """A search. Equal questions have equal answers."""

    words: tuple[str, ...]  # in lower case; all must occur, the last one also as a prefix
    room: str | None = None  # None: all rooms
    before: int | None = None  # an offset in `room`
    user: str | None = None  # id of the author; None: any author
    go_on: int | None = None  # that of an earlier answer, for matches that are older than its own

    def matcher(self) -> Matcher:
        return Matcher(self.words, prefix=self.prefix)

    @property
    def prefix(self) -> bool:
        """Whether the last word is also a prefix."""
        return len(self.words[-1]) >= MIN_PREFIX


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A message that was found; a higher score is better."""

    record: Record
    score: float
    snippet: Snippet


class Found(msgspec.Struct, frozen=True, gc=False):
    """The best matches, best first; `go_on` is where to look for more, or None if nothing is left to search."""

    hits: list[Hit]
    go_on: int | None


class Index(Protocol):
    """The full text of one log."""

    @property
    def lag(self) -> float:
        """An upper bound of how many seconds the oldest unindexed message has waited; 0.0 if all are in the index."""

    async def find(self, question: Question) -> Found:
        """The best of the newest matches. Raises LogUnavailable, also if it takes too long."""


def worth(time_ms: int, now_ms: int) -> float:
    """The factor by which the age of a message reduces its score."""
    return MIN_WEIGHT + (1 - MIN_WEIGHT) * math.exp2(-max(now_ms - time_ms, 0) / HALF_LIFE)


def ranked(records: Iterable[Record], question: Question, now_ms: int) -> list[Hit]:
    """Rank records that an index has found; long ones beyond RANKED_BYTES are left out.

    Records that do not match are left out too: an index may have cut a word, or be of another version of `words`.
    """
    matcher = question.matcher()
    scores = [
        (matcher.score(record.text) * worth(record.time, now_ms), record)
        for record in within_bytes(records, RANKED_BYTES)
    ]
    return [Hit(record, score, matcher.snippet(record.text)) for score, record in top(scores) if score]


def top(scores: list[tuple[float, Record]]) -> list[tuple[float, Record]]:
    """The MAX_HITS best, best first, and the newest of equals."""
    return nlargest(MAX_HITS, scores, key=lambda each: (each[0], each[1].time, each[1].offset))
