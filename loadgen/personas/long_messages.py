"""Messages that are as long as a message may be."""

from functools import cache
from typing import Final

import msgspec

from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder, fill
from loadgen.personas._websocket import encoded

#: Below the 16 KiB that chatserver takes.
MESSAGE_BYTES: Final = 15_000
#: One alone fits what chatserver reads at once, 512 bytes, and half of the next.
MIDDLING_BYTES: Final = 400
_TINY: Final = b'{"":1}'
#: Letters with as many marks as they may have, and an end that is not allowed: looked at to the last, and refused.
_MARKED: Final = ("a" + "\N{COMBINING ACUTE ACCENT}" * 8) * 450 + "\N{RIGHT-TO-LEFT OVERRIDE}"


def _objects() -> bytes:
    """JSON with thousands of objects in a field that nobody reads, and an escape, so that it is looked at closely."""
    objects = [msgspec.Raw(_TINY)] * (MESSAGE_BYTES // (len(_TINY) + 1))
    return encoded({"type": "ping", "id": msgspec.Raw(b'"\\u0041"'), "more": objects})


@cache
def _history(room: str) -> bytes:
    """One block for all who ask about a room."""
    return fill(encoded({"type": "history", "id": 1, "room": room, "limit": 200, "more": "x" * (MIDDLING_BYTES - 70)}))


_OBJECTS: Final = fill(_objects())
_REFUSED: Final = fill(encoded({"type": "publish", "id": 1, "room": "long", "text": _MARKED}))


@persona
class LongMessages(FrameFlooder):
    """WebSocket that sends messages as long as they may be, at full speed.

    A third each: JSON of thousands of objects, texts that are refused for their last character, and questions of such
    a length that hardly more than one is read at once. Each costs ten times what a tiny one does, and there is never a
    second one waiting behind it by which a server could tell that this is a flood.
    """

    __slots__ = ("_block",)

    name = "long-messages"
    needs = Needs.CHAT

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._block = (_OBJECTS, _REFUSED, _history(self.room))[self.number % 3]

    def block(self) -> bytes:
        """Messages."""
        return self._block
