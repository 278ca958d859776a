"""A revolving door."""

from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder, fill
from loadgen.personas._websocket import join, leave


@persona
class RoomChurn(FrameFlooder):
    """WebSocket that joins a room where people are and leaves it again, as fast as it can.

    A server that tells all members of each coming and going multiplies every one by the room's size; presence has to be
    gathered and told now and then. Each join also asks for the room's latest messages: 40 bytes for 10 KB.
    """

    __slots__ = ("_block",)

    name = "room-churn"
    needs = Needs.CHAT

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._block = fill(join(1, self.room) + leave(2, self.room))

    def block(self) -> bytes:
        """In and out."""
        return self._block
