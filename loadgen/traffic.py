"""The open-loop schedule: who says what at which moment, and how long it took to arrive.

Owns: the intended send times, which depend on the rate alone and never on how the target answers, and both latencies
counted from them: to the acknowledgement and to the sender's own message coming back. A closed loop would send less
to a slow target and then report only the messages that it did send (coordinated omission).
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from loadgen.interval import Interval
from loadgen.latency import Latency
from loadgen.timers import now

if TYPE_CHECKING:
    from loadgen.engine import Engine

#: Messages sent in one go when the schedule is behind, before the engine looks at its sockets again.
CATCH_UP_BATCH: Final = 64

#: What a message that was refused, or never acknowledged or heard again, counts for.
TIMEOUT_SECONDS: Final = 5.0

_SENTENCE: Final = "the quick brown fox jumps over the lazy dog"


class Speaker(Protocol):
    """A client that can publish."""

    index: int  # its number in the run
    room: str  # where it speaks

    def publish(self, number: int, text: str) -> None:
        """Send `text`, asking for an acknowledgement under `number`."""


class Traffic:
    """What the chatters of a run say."""

    def __init__(self, random: Random) -> None:
        self.tag = f"lg{random.getrandbits(32):08x}"  # tells this run's messages from a former run's
        self.acks = Latency()
        self.echoes = Latency()
        self.interval = Interval()  # acknowledgements of late
        self.errors: Counter[str] = Counter()
        self.intended = 0
        self.unsent = 0  # due while nobody could speak
        self.speakers: list[Speaker] = []
        self._random = random
        self.acknowledged_in: Counter[str] = Counter()  # messages that the target keeps, by room
        self._unacknowledged: dict[int, tuple[float, str]] = {}
        self._unreturned: dict[int, tuple[float, Speaker]] = {}
        self._running = False
        self._text = _SENTENCE

    def enter(self, speaker: Speaker) -> None:
        """Be one of those whom the schedule calls upon; in the order of numbers, so that a replay calls the same."""
        insort(self.speakers, speaker, key=lambda each: each.index)

    def start(self, engine: Engine, rate: float, *, text_bytes: int = 0) -> None:
        """Begin to speak at `rate` messages a second, one every 1/rate seconds, until `stop`."""
        self._running = True
        self._text = _SENTENCE.ljust(text_bytes, "~")
        begun = now()

        def speak() -> None:
            moment = now()
            for _ in range(CATCH_UP_BATCH):
                due = begun + self.intended / rate
                if due > moment or not self._running:
                    break
                self._speak(due)
                engine.lag.record(now() - due)
            if self._running:
                engine.at(begun + self.intended / rate, speak)

        engine.at(begun, speak)

    def stop(self) -> None:
        """Send nothing more; answers are still counted."""
        self._running = False

    def _speak(self, due: float) -> None:
        number = self.intended
        self.intended += 1
        if not self.speakers:
            self.unsent += 1
            return
        speaker = self._random.choice(self.speakers)
        self._unacknowledged[number] = (due, speaker.room)
        self._unreturned[number] = (due, speaker)
        speaker.publish(number, f"{self.tag} {number} {self._text}")

    def acknowledged(self, number: int) -> None:
        """Book an acknowledgement."""
        sent = self._unacknowledged.pop(number, None)
        if sent is not None:
            due, room = sent
            self.acknowledged_in[room] += 1
            took = now() - due
            self.acks.record(took)
            self.interval.succeeded(took)

    def refused(self, number: int, code: str) -> None:
        """Book that the target would not take a message."""
        self.errors[code] += 1
        self.interval.failed()
        sent = self._unacknowledged.pop(number, None)
        if sent is not None:
            self.acks.record(max(now() - sent[0], TIMEOUT_SECONDS))
        self._unreturned.pop(number, None)

    def heard(self, speaker: Speaker, text: str) -> None:
        """Book that `speaker` received a message, which may be its own."""
        tag, _, rest = text.partition(" ")
        number = rest.partition(" ")[0]
        if tag != self.tag or not number.isdecimal():
            return
        due, author = self._unreturned.get(int(number), (0.0, None))
        if author is speaker:
            del self._unreturned[int(number)]
            self.echoes.record(now() - due)

    def latencies(self) -> tuple[Latency, Latency]:
        """To the acknowledgement, and back at the sender; what never came took the whole timeout."""
        acks, echoes = Latency(), Latency()
        acks.merge(self.acks)
        echoes.merge(self.echoes)
        for due, _ in self._unacknowledged.values():
            acks.record(max(now() - due, TIMEOUT_SECONDS))
        for due, _ in self._unreturned.values():
            echoes.record(max(now() - due, TIMEOUT_SECONDS))
        return acks, echoes

    @property
    def unacknowledged(self) -> int:
        """Messages that were sent and neither acknowledged nor refused."""
        return len(self._unacknowledged)

    @property
    def unreturned(self) -> int:
        """Messages that never came back to their sender, acknowledged or not."""
        return len(self._unreturned)

    @property
    def quiet(self) -> bool:
        """Whether everything that was sent is accounted for."""
        return not self._unacknowledged and not self._unreturned
