"""The words of a text, as every engine's index has them: for matching without an index, for ranks and for snippets.

Owns: what a word is, and which words are equal. May not: know a log.

A word is a run of letters and digits; case and the accents of letters do not count. That is what `unicode61
remove_diacritics 2` makes of a text in SQLite, but for characters that are younger than its tables.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import takewhile

#: Characters of text in a snippet, and how many of them stand before the first hit.
SNIPPET, SNIPPET_BEFORE = 160, 40
#: The usual constants of BM25, as in SQLite, and a length of a message that counts as neither long nor short.
K1, B, USUAL_WORDS = 1.2, 0.75, 12

_ELLIPSIS = "…"
_WORD = re.compile("(?:[^\\W_]|[\u0300-\u036f])+")
_MARKS = re.compile("[\u0300-\u036f]+")

Snippet = list[tuple[str, bool]]


def words_of(text: str) -> list[str]:
    """The words of a question, each once, in lower case."""
    return list(dict.fromkeys(word[0].lower() for word in _WORD.finditer(unicodedata.normalize("NFC", text))))


def fold(text: str) -> str:
    """What is compared."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text))).lower()


def distinct_words(text: str) -> set[str]:
    """The words of a text, as an index that looks for whole words has them."""
    return set(_WORD.findall(fold(text)))


class Matcher:
    """Compares texts with words, all of which must occur; the last also stands for words that begin with it."""

    def __init__(self, words: Sequence[str], *, prefix: bool) -> None:
        self._words = [fold(word) for word in words]
        self._last = self._words[-1] if prefix else None

    def score(self, text: str) -> float:
        """How well a text matches, by BM25; 0.0 if it does not.

        Every word has one weight, since all of them occur in each text that is ranked.
        """
        folded = fold(text)
        if not all(word in folded for word in self._words):
            return 0.0  # nearly all texts end here, after a quarter of a microsecond
        found = _WORD.findall(folded)
        norm = K1 * (1 - B + B * len(found) / USUAL_WORDS)
        score = 0.0
        for word in self._words:
            count = sum(each.startswith(word) for each in found) if word == self._last else found.count(word)
            if not count:
                return 0.0
            score += count * (K1 + 1) / (count + norm)
        return score

    def snippet(self, text: str) -> Snippet:
        """The part of a text around its first hit, in pieces; the true ones are hits."""
        hits = self._hits(text)
        first = next(hits, None)
        if first is None:
            return _cut(text, 0, [])
        begin = max(first[0] - SNIPPET_BEFORE, 0)
        if begin:  # at a word, if there is a gap between words near
            begin = text.find(" ", begin, first[0]) + 1 or begin
        return _cut(text, begin, [first, *takewhile(lambda hit: hit[0] < begin + SNIPPET, hits)])

    def _hits(self, text: str) -> Iterator[tuple[int, int]]:
        for found in _WORD.finditer(text):
            word = fold(found[0])
            if word in self._words or (self._last is not None and word.startswith(self._last)):
                yield found.span()


def _cut(text: str, begin: int, hits: Sequence[tuple[int, int]]) -> Snippet:
    end = begin + SNIPPET
    pieces: Snippet = [(_ELLIPSIS, False)] if begin else []
    at = begin
    for start, stop in hits:
        if start > at:
            pieces.append((text[at:start], False))
        at = min(stop, end)
        pieces.append((text[start:at], True))
    rest = text[at:end] + (_ELLIPSIS if end < len(text) else "")
    if rest:
        pieces.append((rest, False))
    return pieces
