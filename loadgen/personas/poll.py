"""A client behind something that breaks WebSockets."""

from urllib.parse import quote

import msgspec

from loadgen import wire
from loadgen.client import Client, Cohort
from loadgen.personas import persona

#: How long over its `wait` a held poll may stay unanswered before the client gives up.
GRACE_SECONDS = 15.0


class _Page(msgspec.Struct):
    cursor: str
    messages: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(_Page)


@persona
class Poll(Client):
    """Long-poll on a room that asks again as soon as it is answered."""

    __slots__ = ("_cursor",)

    name = "poll"
    honest = True

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._cursor = ""

    def opening(self) -> bytes:
        """Ask where the room stands, or go on from where the former connection ended."""
        return self.request() if self._cursor else self._get("limit=1")

    def on_connected(self) -> None:
        """Be held already when this is a poll again on a new connection."""
        if self._cursor:
            self.wait()

    def on_data(self, data: bytes) -> None:
        """Take an answer and ask for the next."""
        self.unread += data
        answer = wire.read_response(self.unread)
        if answer is None:
            return
        self.unread = answer.rest
        if answer.status != 200:
            self.reject(answer.status)
            return
        try:
            page = _decoder.decode(answer.body)
        except msgspec.MsgspecError:
            raise wire.WireError("an answer without cursor and messages") from None
        if self._cursor:
            self.cohort.deliveries += len(page.messages)
        self._cursor = page.cursor
        if answer.keeps_alive:
            self.on_answered()
        else:
            self.cohort.engine.reopen(self)

    def on_answered(self) -> None:
        """Ask for what comes next."""
        self.send(self.request())
        self.wait()

    def on_time(self, moment: float) -> None:
        """Give up: the server forgot this poll."""
        self.fail("a held poll was never answered")

    def wait(self) -> None:
        """Be held until the answer comes, but not for ever."""
        self.hold()
        self.wake_in(self.cohort.place.poll_wait_seconds + GRACE_SECONDS)

    def request(self) -> bytes:
        """Encode a poll from the cursor on."""
        return self._get(f"after={quote(self._cursor, safe='')}&wait={self.cohort.place.poll_wait_seconds:g}")

    def _get(self, query: str) -> bytes:
        return wire.request("GET", f"/rooms/{self.room}/messages?{query}", self.cohort.place.host)
