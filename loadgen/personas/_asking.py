"""What attackers share that send one request at a time on a connection that is kept. No persona itself.

Each request is valid, and is sent only when the one before it was answered, so limits on pipelining do not apply. The
cost to the server is the work behind each answer, times the number of clients.
"""

from loadgen import wire
from loadgen.client import Attacker, Needs, Threat


class Asker(Attacker):
    """Asks, takes the whole answer, and asks again."""

    __slots__ = ()

    threat = Threat.GREEDY
    needs = Needs.CHAT

    def request(self) -> bytes:
        """Return what to ask next."""
        raise NotImplementedError

    def pause(self, status: int) -> float:
        """Return the seconds between an answer and the next request."""
        raise NotImplementedError

    def opening(self) -> bytes:
        """Ask for the first time."""
        return self.request()

    def on_data(self, data: bytes) -> None:
        """Count an answer, and go on unless the server is about to close."""
        self.unread += data
        answer = wire.read_response(self.unread)
        if answer is None:
            return
        self.unread = answer.rest
        self.cohort.answers[f"answered {answer.status}"] += 1
        seconds = self.pause(answer.status)
        if not answer.keeps_alive:
            self.answered = answer.status
        elif seconds:
            self.wake_in(self.pace(seconds))
        else:
            self.send(self.request())

    def on_time(self, moment: float) -> None:
        """Ask again."""
        self.send(self.request())
