"""The words of a text: every engine's index stores and finds these, and ranks and snippets are made of them.

Owns: what a word is, and which words are equal. May not: know a log.

A word is a run of letters and digits. Case and accents are ignored, as are Hebrew points and Arabic vowel signs; signs
of the scripts of India and Tibet are letters. Chinese and Japanese have no spaces between words, so each ideograph and
each hiragana is a word, as in Unicode's rules for the boundaries of words (UAX 29) and in Lucene.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

#: Characters of text in a snippet, and how many of them stand before the first hit.
SNIPPET, SNIPPET_BEFORE = 160, 40
#: The usual constants of BM25, as in SQLite, and the assumed mean length of a message in words.
K1, B, USUAL_WORDS = 1.2, 0.75, 12

_ELLIPSIS = "…"


def _marks(codes: Iterable[int]) -> str:
    """The combining characters among these code points."""
    return "".join(filter(lambda mark: unicodedata.category(mark).startswith("M"), map(chr, codes)))


# The marks up to Arabic and Thaana, then the blocks of accents for any script, and variation selectors (for emoji).
_ACCENTS = _marks(range(0x300, 0x900)) + "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
_VOWEL_SIGNS = _marks((*range(0x900, 0xE00), *range(0xF00, 0x1000)))
_ACCENT = re.compile(f"[{_ACCENTS}]+")
# For texts in which "_" was replaced by a space.
_WORD = re.compile(f"[\\w{_VOWEL_SIGNS}]+")
# Hiragana, and ideographs with the signs that stand for one.
_ALONE = "\u3005-\u3007\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_EACH_ALONE = re.compile(f"([{_ALONE}])")
_VOICED = "\u3099\u309a"  # marks of kana


def _becoming_one_with(mark: str) -> str:
    """The katakana that are one character with this mark; behind any other the mark ends a word."""
    return "".join(
        kana for kana in map(chr, range(0x30A1, 0x3100)) if len(unicodedata.normalize("NFC", kana + mark)) == 1
    )


_VOICED_KATAKANA = "|".join(f"(?<=[{_becoming_one_with(mark)}]){mark}" for mark in _VOICED)
_UNFOLDED_WORD = re.compile(
    f"(?=[\\w{_VOWEL_SIGNS}])"
    f"(?:[{_ALONE}][{_VOICED}{_ACCENTS}]*|(?:(?![{_ALONE}])[\\w{_VOWEL_SIGNS}{_ACCENTS}]|{_VOICED_KATAKANA})+)"
)

#: Changes when any text may get other words. Raise the number with each change of `fold` or of what a word is.
VERSION = f"2, Unicode {unicodedata.unidata_version}"

#: Begins the word that stands for the author of a message in an index; a private character, so no text has such a word.
AUTHOR = "\ue000"

Snippet = list[tuple[str, bool]]


def fold(text: str) -> str:
    """The form of a text that is compared: no case, no accents, "_" as a space, and spaces around what stands alone."""
    text = text.replace("_", " ")
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", text)).casefold())
    return " ".join(_EACH_ALONE.split(text))  # `sub` with a template takes ten times as long


def words_of(text: str) -> list[str]:
    """The words of a text or a question, folded, each once."""
    return list(dict.fromkeys(_WORD.findall(fold(text))))


def spaced_words(text: str) -> str:
    """The same words for an index that splits and folds ASCII itself, and takes all other characters for letters."""
    return text if text.isascii() else " ".join(words_of(text))


def author_word(user_id: str) -> str:
    """The word that stands for an author."""
    return AUTHOR + user_id.encode().hex()


class Matcher:
    """Compares texts with the words of a question: all must occur, the last one also as a prefix."""

    def __init__(self, words: Sequence[str], *, prefix: bool) -> None:
        self._words = words
        self._last = self._words[-1] if prefix else None

    def score(self, text: str) -> float:
        """How well a text matches, by BM25 without its constant factor; 0.0 if it does not.

        All words have the same weight, since every ranked text has all of them.
        """
        folded = fold(text)
        if not all(word in folded for word in self._words):
            return 0.0  # nearly all texts end here, after 0.25 µs
        found = _WORD.findall(folded)
        norm = K1 * (1 - B + B * len(found) / USUAL_WORDS)
        score = 0.0
        counts = Counter(found)
        for word in self._words:
            count = counts[word]
            if word == self._last:
                count = sum([times for each, times in counts.items() if each.startswith(word)])
            if not count:
                return 0.0
            score += count / (count + norm)
        return score

    def snippet(self, text: str) -> Snippet:
        """The part of a text around its first hit, in pieces, each with whether it is a hit."""
        hits = self._hits(text)
        first = next(hits, None)
        if first is None:
            return _cut(text, 0, [])
        begin = max(first[0] - SNIPPET_BEFORE, 0)
        if begin:  # begin at a word, if there is a space in between
            begin = text.find(" ", begin, first[0]) + 1 or begin
        return _cut(text, begin, [first, *takewhile(lambda hit: hit[0] < begin + SNIPPET, hits)])

    def _hits(self, text: str) -> Iterator[tuple[int, int]]:
        # A text and its folded form have the same words in the same order. To fold each word takes four times as long.
        words, last = frozenset(self._words), self._last
        folded = _WORD.finditer(fold(text))
        for found, match in zip(_UNFOLDED_WORD.finditer(text.replace("_", " ")), folded, strict=False):
            word = match[0]
            if word in words or (last is not None and word.startswith(last)):
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
