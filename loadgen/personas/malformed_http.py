"""Requests that are none."""

from collections.abc import Mapping

from loadgen.personas import persona
from loadgen.personas._cases import PAUSE_SECONDS, CaseByCase
from loadgen.personas._malformed_http import cases


@persona
class MalformedHttp(CaseByCase):
    """Sends requests that are not HTTP/1.1, one on each connection, and notes which of them were taken.

    Bad bytes, two lengths, folded fields, other protocols, bad upgrades. The answers are booked by status; one below
    400 under the name of its case, because a request that two programs read differently can be two requests.
    """

    __slots__ = ()

    name = "malformed-http"

    def cases(self) -> Mapping[str, bytes]:
        """Return the catalogue for this target's paths."""
        place = self.cohort.place
        return cases(place.host, place.path, place.post_path.format(room=self.room), place.websocket_path)

    def opening(self) -> bytes:
        """Say nothing before it is connected."""
        return b""

    def on_connected(self) -> None:
        """Begin."""
        super().on_connected()
        self.play()

    def on_data(self, data: bytes) -> None:
        """Note what is answered; if the connection is kept, go."""
        before = self.answered
        super().on_data(data)
        if self.answered == before:
            return
        if self.answered < 400:
            self.book(f"answered {self.answered}")
        self.wake_in(PAUSE_SECONDS)

    def on_hangup(self, how: str) -> None:
        """Book an end without an answer under its case, too: half of the catalogue deserves a 400."""
        if not self.answered:
            self.book(how)
        super().on_hangup(how)
