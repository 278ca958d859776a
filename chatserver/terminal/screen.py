"""The terminal in interactive mode: a prompt on the last line that incoming messages do not disturb.

Owns: the terminal's mode, which it always restores, and every byte written to it. May not: know of chat.
A terminal that is gone (its window was closed) takes everything without an error: SIGHUP ends the program.
It uses no full-screen library, so that messages stay in the terminal's own scroll-back, where people look for them.
"""

import errno
import os
import signal
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Self

import trio
from rich.cells import cell_len, chop_cells

from chatserver.exits import write_all
from chatserver.terminal.editor import BRACKETED_PASTE, FOCUS_REPORTS, Editor
from chatserver.terminal.render import INDENT, Style, most_cells, shortened, wrapped

_PROMPT_END = "> "
_USUAL_COLUMNS = 80  # if the terminal does not know its width


class Screen:
    """Prints lines above a prompt; controls the terminal while it is entered as a context manager."""

    def __init__(self, source: int, target: int, *, style: Style) -> None:
        self.style = style
        self.prompt = _PROMPT_END
        self.editor = Editor()
        self._source = source
        self._target = target
        self._drawn = ""  # from the beginning of the prompt to the cursor
        self._line = ""  # what was written for it, with the text behind the cursor
        self._note = ""  # the line above the prompt, if it may be replaced
        self._saved = termios.tcgetattr(source)

    def __enter__(self) -> Self:
        self.take_over()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    async def typed(self) -> list[str | None]:
        """Wait for keys and show the line; return the entered lines, and None at the end of input."""
        await trio.lowlevel.wait_readable(self._source)
        data = os.read(self._source, 4096)
        if not data:  # the terminal is gone
            return [None]
        entered = self.editor.feed(data)
        if b"\f" in data:  # Ctrl-L
            self._write("\x1b[H\x1b[2J")
            self._drawn = self._line = self._note = ""
        self.draw()
        return entered

    @property
    def columns(self) -> int:
        with suppress(OSError):
            return os.get_terminal_size(self._target).columns or _USUAL_COLUMNS
        return _USUAL_COLUMNS

    def print(self, text: str, *, indent: int = INDENT) -> None:
        """Print a line, or several, above the prompt."""
        self._note = ""
        lines = wrapped(text, self.columns, indent=indent)
        self._write(f"{self._erase()}{lines}\n{self._prompt_line()}")

    def note(self, text: str) -> None:
        """Print something about the chat that is not a message."""
        self.print(self.style.dim(f"· {text}"), indent=2)

    def change_note(self, text: str) -> None:
        """Print a note in one line, in place of the last one if nothing else has been printed since."""
        erase = self._erase(self._rows(self._note))
        self._note = shortened(f"· {text}", self.columns - 1)
        self._write(f"{erase}{self.style.dim(self._note)}\n{self._prompt_line()}")

    def rule(self, text: str) -> None:
        """Print a line across the screen with a text in it."""
        width = max(0, self.columns - cell_len(text) - 6)
        self.print(self.style.alarm(f"─── {text} {'─' * width}"))

    def clear(self) -> bool:
        """Clear the line being typed; return whether there was anything."""
        anything = self.editor.clear()
        self.draw()
        return anything

    def draw(self) -> None:
        """Show the prompt and the line being typed.

        What is on the screen is not written again: on a console without windows the screen reader says all that is.
        """
        was, erase = self._line, self._erase()
        line = self._prompt_line()
        self._write(line.removeprefix(was) if was and line.startswith(was) else erase + line)

    def give_back(self) -> None:
        """Leave the terminal as it was; a shell would read the reports of a window that loses the focus as keys."""
        self._write(self._erase() + BRACKETED_PASTE[1] + FOCUS_REPORTS[1])
        self._drawn = self._line = self._note = ""
        _until_done(partial(termios.tcsetattr, self._source, termios.TCSADRAIN, self._saved))

    def take_over(self) -> None:
        """Read keys one by one without echo; also after a stop (Ctrl-Z), when the shell has reset the mode."""
        _until_done(partial(_take_keys, self._source))
        self._write(BRACKETED_PASTE[0] + FOCUS_REPORTS[0])

    async def keep_shape(self) -> None:
        """Redraw the prompt when the window changes; leave the terminal to the shell from Ctrl-Z to fg."""
        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT) as signals:
            async for number in signals:
                # While the client leaves, the terminal is given back already: a signal must not take it again.
                await trio.lowlevel.checkpoint_if_cancelled()
                if number == signal.SIGTSTP:
                    self.give_back()
                    ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
                    signal.raise_signal(signal.SIGTSTP)  # stops us here, unless no shell could continue us
                    signal.signal(signal.SIGTSTP, ours)
                if number != signal.SIGWINCH:
                    self.take_over()
                self._line = ""
                self.draw()

    def _prompt_line(self) -> str:
        prompt, most = self.prompt, self.columns // 2  # the other half is for typing
        if cell_len(prompt) > most:
            prompt = shortened(prompt, most - cell_len(_PROMPT_END)) + _PROMPT_END
        room = max(1, self.columns - most_cells(prompt) - 1)
        before, after = self.editor.view(room)
        self._drawn = prompt + before
        # Written again rather than moved back to: terminals differ in the width of emoji of several characters.
        self._line = self._drawn + (f"{after}\r{self._drawn}" if after else "")
        return self._line

    def _erase(self, lines: int = 0) -> str:
        """Return what clears the prompt and this many rows above it.

        A window that became narrower has wrapped the prompt, as most terminals do, and xterm does not. It erases from
        the second column on: of an erasure from the very first one, tmux and PuTTY keep a copy.
        """
        lines += max(0, self._rows(self._drawn) - 1)
        return (f"\x1b[{lines}A" if lines else "") + "\r \x1b[J\r"

    def _rows(self, text: str) -> int:
        return len(chop_cells(text, self.columns)) if text else 0  # rich before 14.3 says one row of no text

    def _write(self, text: str) -> None:
        with suppress(OSError):
            write_all(self._target, text.encode("utf-8", "backslashreplace"))


def _take_keys(source: int) -> None:
    """Ctrl-C and Ctrl-Z keep working. Ctrl-S would stop us at the next line, and the connection with us."""
    tty.setcbreak(source, termios.TCSADRAIN)
    mode = termios.tcgetattr(source)
    mode[0] &= ~termios.IXON
    termios.tcsetattr(source, termios.TCSADRAIN, mode)


def _until_done(change: Callable[[], object]) -> None:
    """Change the terminal's mode. In the background (`bg`) the kernel stops us here, and `fg` interrupts the call."""
    while True:
        try:
            change()
        except termios.error as error:
            if error.args[0] == errno.EINTR:
                continue
        return
