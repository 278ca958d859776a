"""Reads that a server cannot answer from memory."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort
from loadgen.personas import persona
from loadgen.personas._asking import Asker
from loadgen.personas._posting import post_head

#: Their own room, so that the victims' members need not take what is written there.
ROOM: Final = "ask-the-log"

#: Each client posts this once; 500 of these are 4 MB, more than servers keep of a room in memory.
TEXT: Final = (b"old words in the log " * 400)[:8000]

#: The list of rooms, a page of the oldest messages, and a search. A third of the clients begins with each.
QUESTIONS: Final = ("/rooms", f"/rooms/{ROOM}/messages?after=0&limit=200", "/search?q=words&limit=100")

#: After a refusal. Asking again at once would be a flood of requests, which is another attack.
REFUSED_SECONDS: Final = 1.0


@persona
class AskTheLog(Asker):
    """Asks for the list of rooms, an old page or a search, and again as soon as it is answered.

    A log answers a few reads at a time. If they are served first come, first served, every join and every page of
    others waits behind hundreds of these: with 20,000 rooms (`fill-rooms`), 500 made joins fail in chatserver.
    """

    __slots__ = ("_question", "_wrote")

    name = "ask-the-log"
    usual_clients = 500

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._question = cohort.made % len(QUESTIONS)
        self._wrote = False

    def request(self) -> bytes:
        """Write once, then ask."""
        place = self.cohort.place
        if not self._wrote:
            self._wrote = True
            # Servers that know guests by address and agent give each of these its own rate.
            return post_head(place, ROOM, f"Content-Length: {len(TEXT)}", f"User-Agent: asker-{self.index}") + TEXT
        return wire.request("GET", QUESTIONS[self._question % len(QUESTIONS)], place.host)

    def pause(self, status: int) -> float:
        """Wait after a refusal only; what the server does not have is not asked for again."""
        if status == 404:
            self._question += 1
        return REFUSED_SECONDS if status >= 400 else 0.0
