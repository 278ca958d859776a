"""How a catalogue of malformed bytes is played: case after case, whole and in pieces. No persona itself.

A parser that refuses a case whole may take it in pieces, so each case is sent in one piece, in two and in 200 in turn;
and each client begins at another one, so that a hundred clients have played the whole catalogue within seconds.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from loadgen.client import Attacker, Cohort, Threat

PIECES: Final = (1, 2, 200)
PIECE_EVERY_SECONDS: Final = 0.005

#: Over the 10 s that good servers give a head, so that a case which is taken for the beginning of something is booked
#: under the answer to that.
PATIENCE_SECONDS: Final = 15.0

#: After an answer that does not close the connection, or before the next case.
PAUSE_SECONDS: Final = 0.5

#: What the malformed are judged by is what they are answered: a few hundred would only repeat it.
CLIENTS: Final = 100


class CaseByCase(Attacker):
    __slots__ = ("_is_answered", "_played", "_size", "_unsent")

    threat = Threat.MALFORMED
    usual_clients = CLIENTS
    pieces: ClassVar[tuple[int, ...]] = PIECES

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._played = self.number - 1  # each client begins one further than the one before it
        self._unsent = b""
        self._size = 0
        self._is_answered = False

    def cases(self) -> Mapping[str, bytes]:
        raise NotImplementedError

    @property
    def case(self) -> str:
        """The name of the case that is played."""
        return list(self.cases())[self._played % len(self.cases())]

    def play(self) -> None:
        self._played += 1
        self._is_answered = False
        self._unsent = self.cases()[self.case]
        pieces = self.pieces[self._played // len(self.cases()) % len(self.pieces)]
        self._size = -(-len(self._unsent) // pieces)
        self._send_piece()

    def _send_piece(self) -> None:
        piece, self._unsent = self._unsent[: self._size], self._unsent[self._size :]
        self.send(piece)
        if self.fd >= 0:
            self.wake_in(PIECE_EVERY_SECONDS if self._unsent else PATIENCE_SECONDS)

    def book(self, answer: str) -> None:
        """Count an answer that was not to be expected, under the name of its case."""
        self.cohort.answers[f"{self.case}: {answer}"] += 1

    def note_answer(self) -> None:
        """Send no more of this case, and go on soon."""
        self._is_answered = True
        self.wake_in(self.pace(PAUSE_SECONDS))

    def go_on(self) -> None:
        """Go to the next case, on a new connection."""
        self.leave(return_in=self.pace(PAUSE_SECONDS))

    def on_time(self, moment: float) -> None:
        """Send the next piece; or go on, with an answer or without one."""
        if self._unsent and not self._is_answered:
            self._send_piece()
            return
        if not self._is_answered:
            self.book(f"nothing in {PATIENCE_SECONDS:g} s")
        self.go_on()
