"""Long texts that are expensive to check, and refused in the end."""

from collections.abc import Callable
from functools import cache
from typing import Final

from loadgen.client import Cohort
from loadgen.personas import persona
from loadgen.personas._asking import Asker
from loadgen.personas._posting import post_head

#: Below the 64 KiB that most servers take as a body, and above what any takes as a chat message.
BODY_BYTES: Final = 62_000

#: Below every limit on the rate of requests or messages.
POST_EVERY_SECONDS: Final = 1.7


def _isolates() -> bytes:
    """Return bidirectional isolates that balance: all are counted before that is known."""
    pair = "\N{LEFT-TO-RIGHT ISOLATE}\N{POP DIRECTIONAL ISOLATE}".encode()
    return pair * (BODY_BYTES // len(pair))


def _keys() -> bytes:
    """Return JSON with thousands of keys, one of them escaped: none may be compared before all are unescaped."""
    head, tail = b'{"text":"","\\u006b":0', b"}"
    count = (BODY_BYTES - len(head) - len(tail)) // len(b',"0000":0')
    return head + b"".join(b',"%04x":0' % number for number in range(count)) + tail


def _marks() -> bytes:
    """Return letters with as many combining marks as chatserver allows, so that none is refused before the last."""
    letter = ("a" + "\N{COMBINING ACUTE ACCENT}" * 8).encode()
    return letter * (BODY_BYTES // len(letter))


_KINDS: Final[tuple[tuple[str, Callable[[], bytes]], ...]] = (
    ("text/plain; charset=utf-8", cache(_isolates)),
    ("application/json", cache(_keys)),
    ("text/plain; charset=utf-8", cache(_marks)),
)


@persona
class CostlyText(Asker):
    """Posts 62 KB of balanced isolates, of escaped keys or of combining marks every 1.7 s, all of it refused.

    A server that looks at content before size and rate checks each to its end: milliseconds of a loop that all clients
    share. 500 of these raised the ping of every chatserver client to 1.5 s.
    """

    __slots__ = ("_kind",)

    name = "costly-text"
    usual_clients = 500

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._kind = cohort.made % len(_KINDS)

    def request(self) -> bytes:
        """Post."""
        content_type, make = _KINDS[self._kind]
        body = make()
        return post_head(self.cohort.place, self.room, f"Content-Length: {len(body)}", content_type=content_type) + body

    def pause(self, status: int) -> float:
        """Return the same after every answer."""
        return POST_EVERY_SECONDS
