"""A member who never stops talking."""

from typing import Final

from loadgen.client import Needs
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder, fill
from loadgen.personas._websocket import publish

#: They talk in a few rooms of their own, where nobody listens: what is attacked is the server's time for each message,
#: not the victims' screens, which at this rate would be the generator's own work.
_BLOCKS: Final = tuple(fill(publish(f"tiny-{room}", 1, "x")) for room in range(16))


@persona
class TinyFrames(FrameFlooder):
    """WebSocket that publishes one-letter messages at full speed.

    All of it is valid, and a few dozen bytes each buy a parse, a commit and an answer. What stops it is a limit on how
    often one user may publish, and an end for who goes on regardless of `retry_after`.
    """

    __slots__ = ()

    name = "tiny-frames"
    needs = Needs.CHAT

    def block(self) -> bytes:
        """Messages."""
        return _BLOCKS[self.number % len(_BLOCKS)]
