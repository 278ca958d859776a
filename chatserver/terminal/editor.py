"""A line editor: keys in, text and cursor out, without a terminal.

Owns: the line, the cursor, the earlier lines. May not: read or write anything.
It exists because incoming messages would tear the terminal's own line editing, and GNU readline reads the terminal
itself.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from unicodedata import category

from chatserver.terminal.render import HARMLESS, most_cells

BRACKETED_PASTE = "\x1b[?2004h", "\x1b[?2004l"  # on and off; xterm's control sequences
FOCUS_REPORTS = "\x1b[?1004h", "\x1b[?1004l"  # on and off; reports when the window gains or loses the focus
LONGEST_LINE = 16_384  # characters; the server's own limit for a message is in bytes
REMEMBERED_LINES = 100
_CHARACTERS_A_CELL = 4  # a letter and combining marks; with this bound a long line is not measured from its beginning
_JOINER = "\u200d"
_SKIN_TONES = "🏻🏼🏽🏾🏿"
_SHOWN = str.maketrans({"\n": "⏎", "\t": "⇥"})  # for a line break, and for a tab in a paste

#: A character, or a complete escape sequence (ECMA-48 section 5.4) behind the beginnings of others, as after Escape; an
#: incomplete one does not match.
_KEY = re.compile(
    r"(?:\x1b(?:\[[0-?]*+[ -/]*+|O)?(?=\x1b))*(\x1b(?:\[[0-?]*+[ -/]*+[^\x1b]|O[^\x1b]|[^\[O\x1b])|[^\x1b])", re.DOTALL
)

_KEYS = {
    "\x01": "home", "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home",
    "\x05": "end", "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end",
    "\x02": "left", "\x1b[D": "left", "\x1bOD": "left",
    "\x06": "right", "\x1b[C": "right", "\x1bOC": "right",
    "\x10": "earlier", "\x1b[A": "earlier", "\x1bOA": "earlier",
    "\x0e": "later", "\x1b[B": "later", "\x1bOB": "later",
    "\x08": "rub out", "\x7f": "rub out",
    "\x04": "delete", "\x1b[3~": "delete",
    "\x1bb": "word left", "\x1b[1;5D": "word left",
    "\x1bf": "word right", "\x1b[1;5C": "word right",
    "\x0b": "kill to end", "\x15": "kill to start", "\x17": "kill word", "\x1b\x7f": "kill word",
}  # fmt: skip


#: Takes the text before the cursor; returns the part that stays, and the completions.
Completer = Callable[[str], tuple[str, Sequence[str]]]


class Editor:
    """One line of input, as in most shells: arrows, Ctrl-A/E/K/U/W, Alt-B/F, earlier lines, Tab."""

    def __init__(self) -> None:
        self.complete: Completer = lambda before: (before, ())
        self.focused = True  # whether the window has the focus, as far as the terminal reports it
        self.before = ""  # the text before the cursor
        self.after = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""  # the beginning of an escape sequence
        self._earlier: list[str] = []
        self._shown = 0  # index into _earlier; its length: the new line
        self._draft = ""  # the new line, while an earlier one is shown
        self._pasting = False  # until a paste ends, all input is text, including line breaks
        self._choices: list[str] = []  # the texts that Tab cycles through, the first as typed

    @property
    def text(self) -> str:
        return self.before + self.after

    def feed(self, data: bytes) -> list[str | None]:
        """Take bytes from the terminal; return the entered lines, and None for Ctrl-D on an empty line."""
        self._pending += self._decoder.decode(data)
        entered: list[str | None] = []
        while found := _KEY.match(self._pending):
            key = found[1]
            self._pending = self._pending[found.end() :]
            if key in ("\x1b[200~", "\x1b[201~"):
                self._pasting = key == "\x1b[200~"
            elif self._pasting:
                self._insert(key.replace("\r", "\n"))
            elif key in ("\x1b[I", "\x1b[O"):
                self.focused = key == "\x1b[I"
            elif key in ("\t", "\x1b[Z"):
                self._offer(1 if key == "\t" else -1)
            elif key in "\r\n":
                entered.append(self._take())
            elif key == "\x04" and not self.text:
                entered.append(None)
            else:
                self._press(key)
        return entered

    def clear(self) -> bool:
        """Clear the line; return whether there was anything in it."""
        anything = bool(self.text)
        self._pending, self._pasting = "", False  # Ctrl-C: the kernel has dropped what was not read
        self._begin()
        return anything

    def view(self, width: int) -> tuple[str, str]:
        """Return the parts of the line before and after the cursor that fit into `width` columns."""
        most = width * _CHARACTERS_A_CELL
        before = self.before[max(0, len(self.before) - most) :].translate(_SHOWN)
        after = self.after[:most].translate(_SHOWN)
        free = width - most_cells(before)
        while free <= 0:
            first, before = _first(before)
            free += most_cells(first)
        free -= most_cells(after)
        while free < 0:
            after, last = _last(after)
            free += most_cells(last)
        return before, after

    def _take(self) -> str:
        text = self.text
        if text and text not in self._earlier[-1:]:
            self._earlier = [*self._earlier, text][-REMEMBERED_LINES:]
        self._begin()
        return text

    def _begin(self) -> None:
        self._shown = len(self._earlier)
        self.before = self.after = ""

    def _show(self, index: int) -> None:
        if self._shown == len(self._earlier):
            self._draft = self.text
        if 0 <= index <= len(self._earlier):
            self._shown = index
            self.before, self.after = [*self._earlier, self._draft][index], ""

    def _offer(self, step: int) -> None:
        """Show the next completion."""
        if self.before not in self._choices:
            kept, endings = self.complete(self.before)
            self._choices = [self.before, *(kept + ending for ending in endings)]
        index = self._choices.index(self.before) + step
        self.before = self._choices[index % len(self._choices)]

    def _press(self, key: str) -> None:
        before, after = self.before, self.after
        self._choices = []
        match _KEYS.get(key, key):
            case "home":
                self.before, self.after = "", before + after
            case "end":
                self.before, self.after = before + after, ""
            case "left":
                self.before, last = _last(before)
                self.after = last + after
            case "right":
                first, self.after = _first(after)
                self.before = before + first
            case "rub out":
                self.before, _ = _last(before)
            case "delete":
                _, self.after = _first(after)
            case "kill to end":
                self.after = ""
            case "kill to start":
                self.before = ""
            case "kill word":
                self.before = _without_word(before)
            case "word left":
                self.before = _without_word(before)
                self.after = before[len(self.before) :] + after
            case "word right":
                _, space, rest = after.lstrip(" ").partition(" ")
                self.after = space + rest
                self.before = before + after.removesuffix(self.after)
            case "earlier":
                self._show(self._shown - 1)
            case "later":
                self._show(self._shown + 1)
            case char:
                self._insert(char)

    def _insert(self, char: str) -> None:
        is_text = char.isprintable() or char in HARMLESS or char in ("\n", "\t")
        if is_text and len(self.before) + len(self.after) < LONGEST_LINE:
            self.before += char


def _without_word(text: str) -> str:
    """Return a text without its last word and the spaces behind it."""
    kept = text.rstrip()
    return kept[: kept.rfind(" ") + 1]


def _first(text: str) -> tuple[str, str]:
    """Cut a text behind its first character as people see it, which has its accents and what is joined to it."""
    at = min(1, len(text))
    while at < len(text) and _continues(text, at):
        at += 1
    return text[:at], text[at:]


def _last(text: str) -> tuple[str, str]:
    """Cut a text before its last character as people see it."""
    at = max(0, len(text) - 1)
    while at > 0 and _continues(text, at):
        at -= 1
    return text[:at], text[at:]


def _continues(text: str, at: int) -> bool:
    """Whether a code point belongs to the one before it: UAX 29 without flags and Hangul's parts."""
    char = text[at]
    return text[at - 1] == _JOINER or char == _JOINER or category(char).startswith("M") or char in _SKIN_TONES
