"""Standard input as lines, for a program that must go on while nobody types.

Owns: descriptor 0, read by a thread. May not: know what the lines are for.
"""

import os

import trio

LONGEST_LINE = 1 << 20  # B; far above what a server takes, far below what memory minds
READ_SIZE = 65_536


class TooLongError(Exception):
    """A line above LONGEST_LINE: not text, most likely."""


class LineReader:
    """Lines of standard input, read in a thread: a regular file cannot be waited for, a pipe may be shared.

    It reads with `os.read`: a thread that waits inside `sys.stdin` holds its lock, and the interpreter would
    abort at exit.
    """

    def __init__(self) -> None:
        self.number = 0
        """Of the line that `next` returned last."""
        self.at_end = False
        self._buffer = bytearray()

    async def next(self) -> str | None:
        """Return the next line without its end, or None after the last."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0 and not self.at_end:
            searched = len(self._buffer)
            if searched > LONGEST_LINE:
                raise TooLongError(f"line {self.number + 1} is longer than {LONGEST_LINE:,} B")
            data = await trio.to_thread.run_sync(_read_input, abandon_on_cancel=True)
            self._buffer += data
            self.at_end = not data
        if end < 0 and not self._buffer:
            return None
        line = bytes(self._buffer if end < 0 else self._buffer[:end])
        del self._buffer[: len(line) + 1]
        self.number += 1
        return line.decode("utf-8", "replace").removesuffix("\r")


def _read_input() -> bytes:
    try:
        return os.read(0, READ_SIZE)
    except OSError:  # closed, or the terminal is gone: the end of input
        return b""
