"""A line being typed: keys in, text and cursor out, without a terminal.

Owns: the line, the cursor, the lines typed before. May not: read or write anything.
It exists because the terminal's own line editing would be torn by messages that come while one types, and
GNU readline reads the terminal itself.
"""

import codecs
import re
from dataclasses import dataclass

from rich.cells import cell_len

LONGEST_LINE = 16_384  # characters; the server's own limit for a message is in bytes, and it says so
REMEMBERED_LINES = 100

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~]|[^\[O])")
_PARTIAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")

_KEYS = {
    "\x01": "home", "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home",
    "\x05": "end", "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end",
    "\x02": "left", "\x1b[D": "left", "\x1bOD": "left",
    "\x06": "right", "\x1b[C": "right", "\x1bOC": "right",
    "\x10": "earlier", "\x1b[A": "earlier", "\x1bOA": "earlier",
    "\x0e": "later", "\x1b[B": "later", "\x1bOB": "later",
    "\x08": "rub out", "\x7f": "rub out",
    "\x1b[3~": "delete",
    "\x0b": "kill to end", "\x15": "kill to start", "\x17": "kill word",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """The user pressed Enter."""

    text: str


@dataclass(frozen=True, slots=True)
class Quit:
    """The user pressed Ctrl-D on an empty line."""


class Editor:
    """One line of input, as in most shells: arrows, Ctrl-A/E/K/U/W, earlier lines."""

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""  # of an escape sequence
        self._earlier: list[str] = []
        self._shown = 0  # index into _earlier; its length: the new line

    def feed(self, data: bytes) -> list[Line | Quit]:
        """Take bytes from the terminal and return what the user asked for by them."""
        pending = self._partial + self._decoder.decode(data)
        self._partial = ""
        asked: list[Line | Quit] = []
        while pending:
            if pending[0] == "\x1b":
                if _PARTIAL.match(pending):
                    self._partial = pending
                    break
                sequence = _SEQUENCE.match(pending)
                key = sequence.group() if sequence else pending[0]
            else:
                key = pending[0]
            pending = pending[len(key) :]
            if key in "\r\n":
                asked.append(Line(self._take()))
            elif key == "\x04" and not self.text:
                asked.append(Quit())
            else:
                self._press(key)
        return asked

    def view(self, width: int) -> tuple[str, int]:
        """Return the part of the line that fits `width` columns, and the cursor's column in it."""
        start = 0
        while cell_len(self.text[start : self.position]) >= width and start < self.position:
            start += 1
        end = len(self.text)
        while cell_len(self.text[start:end]) > width:
            end -= 1
        return self.text[start:end], cell_len(self.text[start : self.position])

    def _take(self) -> str:
        text = self.text
        if text and text not in self._earlier[-1:]:
            self._earlier = [*self._earlier, text][-REMEMBERED_LINES:]
        self._shown = len(self._earlier)
        self._set("")
        return text

    def _set(self, text: str) -> None:
        self.text = text
        self.position = len(text)

    def _press(self, key: str) -> None:
        before, after = self.text[: self.position], self.text[self.position :]
        match "delete" if key == "\x04" else _KEYS.get(key, key):
            case "home":
                self.position = 0
            case "end":
                self.position = len(self.text)
            case "left":
                self.position = max(0, self.position - 1)
            case "right":
                self.position = min(len(self.text), self.position + 1)
            case "rub out":
                self._replace(before[:-1], after)
            case "delete":
                self._replace(before, after[1:])
            case "kill to end":
                self._replace(before, "")
            case "kill to start":
                self._replace("", after)
            case "kill word":
                kept = before.rstrip()
                self._replace(kept[: kept.rfind(" ") + 1], after)
            case "earlier":
                self._show(self._shown - 1)
            case "later":
                self._show(self._shown + 1)
            case char if char.isprintable() and len(self.text) < LONGEST_LINE:
                self._replace(before + char, after)
            case _:
                pass  # a key without a meaning here

    def _replace(self, before: str, after: str) -> None:
        self.text = before + after
        self.position = len(before)

    def _show(self, index: int) -> None:
        if 0 <= index <= len(self._earlier):
            self._shown = index
            self._set(self._earlier[index] if index < len(self._earlier) else "")
