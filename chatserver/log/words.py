"""The words of a text, as every engine's index has them: for matching without an index, for ranks and for snippets.

Owns: what a word is, and which words are equal. May not: know a log.

A word is a run of letters and digits; case and the accents of letters do not count. That is what `unicode61
remove_diacritics 2` makes of a text in SQLite, but for characters that are younger than its tables.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

#: Characters of text in a snippet, and how many of them stand before the first hit.
SNIPPET, SNIPPET_BEFORE = 160, 40
#: The usual constants of BM25, as in SQLite, and a length of a message that counts as neither long nor short.
K1, B, USUAL_WORDS = 1.2, 0.75, 12

_ELLIPSIS = "…"
_WORD = re.compile("(?:[^\\W_]|[\u0300-\u036f])+")
_MARKS = re.compile("[\u0300-\u036f]+")

Snippet = list[tuple[str, bool]]


class Match(NamedTuple):
    """How a text matches: how well, and where, in pieces of which the true ones are hits."""

    score: float
    snippet: Snippet


def words_of(text: str) -> list[str]:
    """The words of a question, each once, in lower case."""
    return list(dict.fromkeys(word[0].lower() for word in _WORD.finditer(text)))


def fold(text: str) -> str:
    """What is compared."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text))).lower()


class Matcher:
    """Compares texts with words, all of which must occur; the last also stands for words that begin with it."""

    def __init__(self, words: Sequence[str], *, prefix: bool) -> None:
        self._words = [fold(word) for word in words]
        self._last = self._words[-1] if prefix else None

    def match(self, text: str) -> Match | None:
        """How a text matches, or None."""
        folded = fold(text)
        if not all(word in folded for word in self._words):
            return None  # nearly all texts end here, after a quarter of a microsecond
        counts = dict.fromkeys(self._words, 0)
        hits = []
        length = 0
        for length, (start, end, word) in enumerate(_folded_words(text), 1):  # noqa: B007  the last is the number of words
            hit = word if word in counts else self._last if self._last and word.startswith(self._last) else None
            if hit is not None:
                counts[hit] += 1
                hits.append((start, end))
        if not all(counts.values()):
            return None
        return Match(_score(counts.values(), length), snippet(text, hits))

    def __call__(self, text: str) -> Match:
        """The same for a text that an index has found: if it is of another mind, the text is a hit without marks."""
        return self.match(text) or Match(0.0, snippet(text, []))


def _folded_words(text: str) -> Iterator[tuple[int, int, str]]:
    for word in _WORD.finditer(text):
        yield word.start(), word.end(), fold(word[0])


def _score(counts: Iterable[int], length: int) -> float:
    """BM25 with every word of one weight: all of them occur in each text that is ranked."""
    norm = K1 * (1 - B + B * length / USUAL_WORDS)
    return sum(count * (K1 + 1) / (count + norm) for count in counts)


def snippet(text: str, hits: Sequence[tuple[int, int]]) -> Snippet:
    """The part of a text around its first hit, in pieces; the true ones are hits."""
    begin = max(hits[0][0] - SNIPPET_BEFORE, 0) if hits else 0
    if begin:  # at a word, if there is a gap between words near
        begin = text.find(" ", begin, hits[0][0]) + 1 or begin
    end = begin + SNIPPET
    pieces: list[tuple[str, bool]] = [(_ELLIPSIS, False)] if begin else []
    at = begin
    for start, stop in hits:
        if start >= end:
            break
        if start > at:
            pieces.append((text[at:start], False))
        pieces.append((text[start : min(stop, end)], True))
        at = min(stop, end)
    rest = text[at:end] + (_ELLIPSIS if end < len(text) else "")
    if rest:
        pieces.append((rest, False))
    return pieces
