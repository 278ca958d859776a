"""Slow read over WebSocket: the unread bytes are the room's messages."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort, Needs
from loadgen.personas import persona
from loadgen.personas._flood import Intruder
from loadgen.personas._websocket import join, publish
from loadgen.personas.slow_read import LOOK_EVERY_SECONDS, RECEIVE_BUFFER_BYTES, SEGMENT_BYTES

#: One of so many also speaks, so that there is something not to be read in a room where nobody else does.
LISTENERS_PER_SPEAKER: Final = 100
SPEAK_EVERY_SECONDS: Final = 2.0
_TEXT: Final = "x" * 1000


@persona
class SlowReadWs(Intruder):
    """WebSocket that joins a room and never reads what is said there.

    The slow consumer of every broker. Some servers gather for it without bound (websockets.broadcast: 1.9 GB for 2,500
    of them), in some the broadcast waits (healthy members of aiohttp, uvicorn and hypercorn rooms got 28, 20 and 0%).
    """

    __slots__ = ("_speaks",)

    name = "slow-read-ws"
    needs = Needs.CHAT
    usual_clients = 2500
    receive_buffer_bytes = RECEIVE_BUFFER_BYTES
    segment_bytes = SEGMENT_BYTES

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._speaks = cohort.made % LISTENERS_PER_SPEAKER == 1

    def on_open(self, head: wire.Head) -> None:
        """Join, and turn a deaf ear."""
        self.send(join(0, self.room))
        self.stop_reading()
        self.wake_in(self.pace(SPEAK_EVERY_SECONDS if self._speaks else LOOK_EVERY_SECONDS))

    def on_time(self, moment: float) -> None:
        """Speak if it is one who does, unless all is over."""
        if self.is_forgotten():
            self.fail("closed with messages unread")
            return
        self.wake_in(self.pace(SPEAK_EVERY_SECONDS if self._speaks else LOOK_EVERY_SECONDS))
        if self._speaks:
            self.send(publish(self.room, 1, _TEXT))
