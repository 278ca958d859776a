"""The terminal in interactive mode: a prompt on the last line that incoming messages do not tear.

Owns: the terminal's mode, which it always restores, and every byte written to it. May not: know of chat.
No full-screen library: what was said stays in the terminal's own scroll-back, where people look for it.
"""

import os
import shutil
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from rich.cells import cell_len, set_cell_size

from chatserver.client.editor import Editor, Line, Quit

_CLEAR_LINE = "\r\x1b[J"  # to the end of the screen: a prompt that a smaller window wrapped goes as well
_NARROWEST = 8  # columns for typing that stay, whatever the prompt says


class Screen:
    """Prints lines above a prompt. Made by `opened`."""

    def __init__(self, source: int, target: int, *, colours: bool) -> None:
        self.colours = colours
        self.prompt = "> "
        self._source = source
        self._target = target
        self._editor = Editor()
        self._saved = termios.tcgetattr(source)

    async def typed(self) -> list[Line | Quit]:
        """Wait for keys; return what was asked by them, maybe nothing, and show the line."""
        await trio.lowlevel.wait_readable(self._source)
        data = os.read(self._source, 4096)
        if not data:  # the terminal is gone
            return [Quit()]
        asked = self._editor.feed(data)
        self.draw()
        return asked

    def print(self, text: str) -> None:
        """Print a line, or several, above the prompt."""
        self._write(f"{_CLEAR_LINE}{text}\n{self._prompt_line()}")

    def note(self, text: str) -> None:
        """Print something about the chat rather than out of it."""
        self.print(f"\x1b[2m· {text}\x1b[0m" if self.colours else f"· {text}")

    def draw(self) -> None:
        """Show the prompt and what is being typed."""
        self._write(_CLEAR_LINE + self._prompt_line())

    def take_over(self) -> None:
        """Take keys one by one and without echo; also after a stop (Ctrl-Z), when the shell has undone it."""
        mode = termios.tcgetattr(self._source)
        mode[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)  # ISIG stays: Ctrl-C and Ctrl-Z work
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._source, termios.TCSADRAIN, mode)

    def give_back(self) -> None:
        """Restore the terminal as it was."""
        self._write(_CLEAR_LINE)
        termios.tcsetattr(self._source, termios.TCSADRAIN, self._saved)

    def _prompt_line(self) -> str:
        columns = shutil.get_terminal_size().columns
        prompt = self.prompt
        if cell_len(prompt) > columns - _NARROWEST:
            prompt = set_cell_size(prompt, max(0, columns - _NARROWEST))
        room = max(1, columns - cell_len(prompt) - 1)
        text, cursor = self._editor.view(room)
        back = cell_len(text) - cursor
        return prompt + text + (f"\x1b[{back}D" if back else "")

    def _write(self, text: str) -> None:
        view = memoryview(text.encode("utf-8", "backslashreplace"))
        while view:
            view = view[os.write(self._target, view) :]


@contextmanager
def opened(source: int, target: int, *, colours: bool) -> Iterator[Screen]:
    """Take the terminal over until the block ends, however it ends."""
    screen = Screen(source, target, colours=colours)
    try:
        screen.take_over()
        yield screen
    finally:
        screen.give_back()
