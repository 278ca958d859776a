"""A message of nothing that never ends."""

from typing import Final

from loadgen import wire
from loadgen.frames import MORE, TEXT, frame
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder, fill

_CONTINUATIONS: Final = fill(frame(MORE))


@persona
class EmptyFragments(FrameFlooder):
    """WebSocket that begins a message and continues it with millions of empty frames.

    The message's size stays 0, so limits on bytes never apply: trio-websocket 0.12 kept 200,001 fragments with a limit
    of 1 KiB. Six bytes buy a list entry and a parser's turn each.
    """

    __slots__ = ()

    name = "empty-fragments"

    def on_open(self, head: wire.Head) -> None:
        """Begin the message."""
        self.send(frame(TEXT))
        super().on_open(head)

    def block(self) -> bytes:
        """Empty continuations."""
        return _CONTINUATIONS
