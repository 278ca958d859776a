"""A parser for server-sent events (WHATWG HTML section 9.2.6), without I/O.

Owns: the parser. May not: know what an event means.
"""

import codecs
from collections.abc import Iterator
from typing import NamedTuple

from chatserver.client.wire import ProtocolError

LONGEST_EVENT = 1 << 20  # characters of one event, far above those of a record


class StreamEvent(NamedTuple):
    """One event."""

    name: str
    data: str


class EventStream:
    """Feed it the body as it comes. `retry` is the server's time before reconnecting, in seconds."""

    def __init__(self) -> None:
        self.retry: float | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """Return the events that are now complete."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            name, _, value = line.removesuffix("\r").partition(":")
            value = value.removeprefix(" ")
            if not line.removesuffix("\r"):
                if self._data:
                    yield StreamEvent(self._name or "message", "\n".join(self._data))
                self._name, self._data = "", []
            elif name == "data":
                self._data.append(value)
            elif name == "event":
                self._name = value
            elif name == "retry" and value.isdecimal():
                self.retry = int(value) / 1000
        if len(self._rest) + sum(map(len, self._data)) > LONGEST_EVENT:
            raise ProtocolError(f"an event of more than {LONGEST_EVENT:,} characters")
