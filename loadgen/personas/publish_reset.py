"""Publishers over HTTP that reset the connection right after their 201."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs, Threat
from loadgen.personas import persona
from loadgen.personas._lingering import Lingerer
from loadgen.personas._posting import post_head
from loadgen.personas._websocket import join

#: A room of its own: its members take 8 KB for each message, which would drown the victims' room.
ROOM: Final = "publish-reset"

#: Just below the 8 KiB that chatserver takes: few messages make the room busy.
TEXT_BYTES: Final = 8000

#: Between a reset and the next connection; 300 of these publish 600 messages a second, more than most rooms take.
RETURN_SECONDS: Final = 0.5


@persona
class PublishReset(Lingerer):
    """Posts 8 KB messages into a busy room, reads the 201 and resets at once; half of them are the room's members.

    A server that pauses publishers while a room is congested keeps a list of them. A connection that was closed and is
    still on that list is resumed later: chatserver asked the kernel about descriptor -1, and the process ended.
    """

    __slots__ = ("_publishes",)

    name = "publish-reset"
    threat = Threat.GREEDY
    needs = Needs.CHAT
    usual_clients = 600

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self.room = ROOM
        self._publishes = cohort.made % 2 == 0

    def opening(self) -> bytes:
        """Post at once, or ask for the upgrade."""
        if not self._publishes:
            return super().opening()
        # Servers that know guests by address and agent give each of these its own rate.
        fields = (f"Content-Length: {TEXT_BYTES}", f"User-Agent: publisher-{self.index}")
        return post_head(self.cohort.place, self.room, *fields) + b"x" * TEXT_BYTES

    def on_connected(self) -> None:
        """Be held at once as a publisher; a member is held when the WebSocket is open."""
        super().on_connected()
        if self._publishes:
            self.hold()

    def on_open(self, head: wire.Head) -> None:
        """Join."""
        self.send(join(0, self.room))

    def on_data(self, data: bytes) -> None:
        """Reset at the answer's first line, or listen as a member."""
        if not self._publishes:
            super().on_data(data)
            return
        self.unread += data
        status = wire.final_status(self.unread)
        if status is not None:
            self.cohort.answers[f"answered {status}"] += 1
            self.abort(return_in=self.pace(RETURN_SECONDS))
