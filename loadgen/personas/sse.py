"""A dashboard that follows a room."""

from typing import Final

from loadgen import wire
from loadgen.client import Client, Stage
from loadgen.personas import persona

_EVENT: Final = b"\ndata:"


@persona
class Sse(Client):
    """Event stream on a room that is read and never answered."""

    __slots__ = ()

    name = "sse"
    honest = True

    def opening(self) -> bytes:
        """Ask for the stream."""
        return wire.request("GET", f"/rooms/{self.room}/events", self.cohort.place.host, "Accept: text/event-stream")

    def on_data(self, data: bytes) -> None:
        """Check the head, then count events by their data lines."""
        if self.stage is Stage.HELD:
            data = self.unread + data
            self.cohort.deliveries += data.count(_EVENT)
            self.unread = data[1 - len(_EVENT) :]  # an event may begin in the middle of it
            return
        self.unread += data
        head = wire.read_head(self.unread)
        if head is None:
            return
        self.unread = b""
        if head.status != 200:
            self.reject(head.status)
        elif not head.fields.get("content-type", "").startswith("text/event-stream"):
            raise wire.WireError("an event stream of another content type")
        else:
            self.hold()
