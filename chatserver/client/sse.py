"""A parser for server-sent events (WHATWG HTML section 9.2.6), without I/O.

Owns: the parser. May not: know what an event means; its name is not used, since each frame names its type.
"""

import codecs
import re
from collections.abc import Iterator
from io import StringIO

from chatserver.client.wire import ProtocolError

LONGEST_EVENT = 1 << 20  # characters of one event, far above those of a record

_MILLISECONDS = re.compile("[0-9]{1,9}")


class EventStream:
    """Feed it the body as it comes. `retry` is the server's time before reconnecting, in seconds."""

    def __init__(self) -> None:
        self.retry: float | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = StringIO()  # a line without its end; a text would be copied with each piece
        self._data: list[str] = []
        self._size = 0  # characters of the lines in `_data`

    def feed(self, data: bytes) -> Iterator[str]:
        """Return the data of the events that are now complete."""
        *lines, rest = self._decoder.decode(data).split("\n")
        if lines:
            lines[0] = self._rest.getvalue() + lines[0]
            self._rest = StringIO()
        self._rest.write(rest)
        for line in lines:
            name, _, value = line.removesuffix("\r").partition(":")
            value = value.removeprefix(" ")
            if line in ("", "\r"):
                if self._data:
                    yield "\n".join(self._data)
                self._data, self._size = [], 0
            elif name == "data":
                self._data.append(value)
                self._size += len(line)
            elif name == "retry" and _MILLISECONDS.fullmatch(value):
                self.retry = int(value) / 1000
        if self._rest.tell() + self._size > LONGEST_EVENT:
            raise ProtocolError(f"an event of more than {LONGEST_EVENT:,} characters")
