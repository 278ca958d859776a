"""The open-loop schedule: which client speaks at which moment, and how long its message took to arrive.

Owns: the intended send times, which depend on the rate alone and never on how the target answers, and both latencies
counted from them: to the acknowledgement and to the sender's own message coming back. A closed loop would send less
to a slow target and then report only the messages that it did send (coordinated omission).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from math import sqrt
from random import Random
from typing import ClassVar, Final, NamedTuple, Protocol

from loadgen.latency import Lag, Latency, Recent
from loadgen.messages import TrafficResult
from loadgen.timers import NEVER, now

#: Messages sent in one go when the schedule is behind, before the engine looks at its sockets again.
CATCH_UP_BATCH: Final = 64

#: What a message that was refused, or never acknowledged or heard again, counts for.
TIMEOUT_SECONDS: Final = 5.0

_SENTENCE: Final = "the quick brown fox jumps over the lazy dog"


class Speaker(Protocol):
    index: int  # its number in the run
    echoes: ClassVar[bool]  # whether what it says comes back to it

    @property
    def room(self) -> str:
        """Where it speaks."""

    def publish(self, number: int, text: str) -> None:
        """Send `text`, asking for an acknowledgement under `number`."""


class Pace(NamedTuple):
    """When messages are due: from one rate to another over a span, and at that from then on."""

    begun: float
    from_rate: float
    to_rate: float
    over_seconds: float

    def due(self, number: int) -> float:
        """When the message of this number, from 0 on, is due: where the area below the rate has grown to it."""
        slope = (self.to_rate - self.from_rate) / self.over_seconds if self.over_seconds else 0.0
        meanwhile = (self.from_rate + self.to_rate) / 2 * self.over_seconds
        if number >= meanwhile:
            return self.begun + self.over_seconds + (number - meanwhile) / self.to_rate if self.to_rate else NEVER
        if not slope:
            return self.begun + number / self.from_rate
        return self.begun + (sqrt(self.from_rate**2 + 2 * slope * number) - self.from_rate) / slope


class Traffic:
    def __init__(self, random: Random, *, at: Callable[[float, Callable[[], None]], None], lag: Lag) -> None:
        self._at = at  # calls at a moment
        self._lag = lag
        self._rate = 0.0
        self._paces = 0  # so far
        self.tag = f"lg{random.getrandbits(32):08x}"  # tells this run's messages from a former run's
        self.acks = Latency()
        self.echoes = Latency()
        self.recent = Recent()  # acknowledgements of late
        self.errors: Counter[str] = Counter()
        self.intended = 0
        self.unsent = 0  # due while no client could speak
        self.speakers: list[Speaker] = []
        self.acknowledged_in: Counter[str] = Counter()  # messages that the target keeps, by room
        self._unacknowledged: dict[int, tuple[float, str]] = {}
        self._unreturned: dict[int, tuple[float, Speaker]] = {}
        self._text = _SENTENCE

    def enter(self, speaker: Speaker) -> None:
        """Join the schedule's speakers; in the order of numbers, so that a replay calls the same."""
        place = bisect_left(self.speakers, speaker.index, key=lambda each: each.index)
        if self.speakers[place : place + 1] != [speaker]:
            self.speakers.insert(place, speaker)

    def leave(self, speaker: Speaker) -> None:
        if speaker in self.speakers:
            self.speakers.remove(speaker)

    def start(self, rate: float, *, text_bytes: int = 0, over_seconds: float = 0.0) -> None:
        """Speak at `rate` messages a second from now on, or from `over_seconds` on and evenly nearer to it until then.

        It lasts until `stop`, or until another rate is set.
        """
        self._text = _SENTENCE.ljust(text_bytes, "~")
        pace = Pace(now(), self._rate if over_seconds else rate, rate, over_seconds)
        self._rate = rate
        self._paces += 1
        mine, first = self._paces, self.intended

        def speak() -> None:
            moment = now()
            for _ in range(CATCH_UP_BATCH):
                due = pace.due(self.intended - first)
                if due > moment or mine != self._paces:
                    break
                self._speak(due)
                self._lag.record(now() - due)
            if mine == self._paces and (due := pace.due(self.intended - first)) < NEVER:
                self._at(due, speak)

        speak()

    def stop(self) -> None:
        """Send nothing more; answers are still counted."""
        self._paces += 1
        self._rate = 0.0

    def _speak(self, due: float) -> None:
        number = self.intended
        self.intended += 1
        if not self.speakers:
            self.unsent += 1
            return
        speaker = self.speakers[number % len(self.speakers)]
        self._unacknowledged[number] = (due, speaker.room)
        if speaker.echoes:
            self._unreturned[number] = (due, speaker)
        speaker.publish(number, f"{self.tag} {number} {self._text}")

    def acknowledged(self, number: int) -> None:
        sent = self._unacknowledged.pop(number, None)
        if sent is not None:
            due, room = sent
            self.acknowledged_in[room] += 1
            took = now() - due
            self.acks.record(took)
            self.recent.latency.record(took)

    def refused(self, number: int, code: str) -> None:
        """Book that the target would not take a message."""
        self.errors[code] += 1
        self.recent.failed += 1
        sent = self._unacknowledged.pop(number, None)
        if sent is not None:
            self.acks.record(max(now() - sent[0], TIMEOUT_SECONDS))
        self._unreturned.pop(number, None)

    def number_in(self, text: str) -> int | None:
        tag, _, rest = text.partition(" ")
        number = rest.partition(" ")[0]
        return int(number) if tag == self.tag and number.isdecimal() else None

    def heard(self, speaker: Speaker, text: str) -> None:
        """Book that `speaker` received a message, which may be its own."""
        number = self.number_in(text)
        if number is None:
            return
        due, author = self._unreturned.get(number, (0.0, None))
        if author is speaker:
            del self._unreturned[number]
            self.echoes.record(now() - due)

    def result(self) -> TrafficResult:
        """What became of all messages; what never came took the whole timeout."""
        acks, echoes = deepcopy(self.acks), deepcopy(self.echoes)
        for latency, waiting in (acks, self._unacknowledged), (echoes, self._unreturned):
            for due, _ in waiting.values():
                latency.record(max(now() - due, TIMEOUT_SECONDS))
        return TrafficResult(
            acks=acks,
            echoes=echoes,
            acknowledged_in=dict(self.acknowledged_in),
            errors=dict(self.errors),
            unacknowledged=len(self._unacknowledged),
            unreturned=len(self._unreturned),
            unsent=self.unsent,
        )

    @property
    def outstanding(self) -> int:
        """Messages that were sent and not yet acknowledged or refused, or have not come back to their sender."""
        return len(self._unacknowledged) + len(self._unreturned)
