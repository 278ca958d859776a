"""The words of a text: what every engine's index stores and looks for, and what ranks and snippets are made of.

Owns: what a word is, and which words are equal. May not: know a log.

A word is a run of letters and digits. Case and accents do not count, nor do the points of Hebrew and the vowel signs of
Arabic, which most people leave out. In the scripts of India and Tibet signs are vowels and consonants, and count.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

#: Characters of text in a snippet, and how many of them stand before the first hit.
SNIPPET, SNIPPET_BEFORE = 160, 40
#: The usual constants of BM25, as in SQLite, and a length of a message that counts as neither long nor short.
K1, B, USUAL_WORDS = 1.2, 0.75, 12

_ELLIPSIS = "…"


def _marks(codes: Iterable[int]) -> str:
    """The combining ones of these characters."""
    return "".join(filter(lambda mark: unicodedata.category(mark).startswith("M"), map(chr, codes)))


# Up to Arabic and Thaana, then the blocks of accents for any script, and what makes a character a picture.
_ACCENTS = _marks(range(0x300, 0x900)) + "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
_VOWEL_SIGNS = _marks((*range(0x900, 0xE00), *range(0xF00, 0x1000)))
_ACCENT = re.compile(f"[{_ACCENTS}]+")
# In a text in which "_" is a space.
_WORD = re.compile(f"[\\w{_VOWEL_SIGNS}]+")
_UNFOLDED_WORD = re.compile(f"[\\w{_VOWEL_SIGNS}{_ACCENTS}]+")

#: Changes when the words of some text do. Raise the number with each change of `fold` or of what a word is.
VERSION = f"1, Unicode {unicodedata.unidata_version}"

Snippet = list[tuple[str, bool]]


def fold(text: str) -> str:
    """What is compared."""
    text = text.replace("_", " ")
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", text)).casefold())


def words_of(text: str) -> list[str]:
    """The words of a text or a question, each once, as they are compared."""
    return list(dict.fromkeys(_WORD.findall(fold(text))))


def spaced_words(text: str) -> str:
    """The same words for an index that splits and folds ASCII by itself, and takes all other characters for letters."""
    return text if text.isascii() else " ".join(_WORD.findall(fold(text)))


class Matcher:
    """Compares texts with the words of a question: all must occur, the last also as the beginning of a word."""

    def __init__(self, words: Sequence[str], *, prefix: bool) -> None:
        self._words = words
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
        for found in _UNFOLDED_WORD.finditer(text.replace("_", " ")):
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
