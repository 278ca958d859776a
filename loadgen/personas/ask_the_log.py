"""Questions that memory cannot answer."""

from typing import Final

from loadgen import wire
from loadgen.client import Cohort
from loadgen.personas import persona
from loadgen.personas._asking import Asker
from loadgen.personas._posting import post_head

#: Their own room, so that the victims' members need not take what is written there.
ROOM: Final = "ask-the-log"

#: What each writes there when it comes: 500 of these are 4 MB, more than servers keep of a room in memory.
TEXT: Final = (b"old words in the log " * 400)[:8000]

#: All rooms; the oldest messages, as many as an answer may have; a search. A third of them begins with each.
QUESTIONS: Final = ("/rooms", f"/rooms/{ROOM}/messages?after=0&limit=200", "/search?q=words&limit=100")

#: After a refusal. To ask at once again would be a flood of requests, which is another attack.
REFUSED_SECONDS: Final = 1.0


@persona
class AskTheLog(Asker):
    """Asks for the list of rooms, an old page or a search, and again as soon as it is answered.

    A disk answers a few at a time. Where hundreds wait for it in the order in which they came, everybody whose join or
    page needs it waits behind them: with 20,000 rooms (`fill-rooms`), 500 of these had chatserver refuse all others.
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
            # Servers that count guests by address and agent count each of these for itself.
            return post_head(place, ROOM, f"Content-Length: {len(TEXT)}", f"User-Agent: asker-{self.index}") + TEXT
        return wire.request("GET", QUESTIONS[self._question % len(QUESTIONS)], place.host)

    def pause(self, status: int) -> float:
        """Wait after a refusal only; what the server does not have is not asked for again."""
        if status == 404:
            self._question += 1
        return REFUSED_SECONDS if status >= 400 else 0.0
