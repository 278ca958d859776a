"""The open-loop schedule: which client sends a message when, and how long the message takes.

Owns: the intended send times, which depend on the rate alone, and both latencies counted from them. A closed loop would
send less to a slow target, and report only what it sent (coordinated omission).
"""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Container
from copy import deepcopy
from functools import lru_cache
from math import sqrt
from random import Random
from typing import ClassVar, Final, NamedTuple, Protocol
from zlib import crc32

from loadgen.clients.messages import TrafficResult
from loadgen.net.timers import NEVER, now
from loadgen.net.wire import whole_number
from loadgen.report.latency import Lag, Recent

#: Messages sent at once when the schedule is behind, before the engine serves its sockets again.
CATCH_UP_BATCH: Final = 64

#: The duration that counts for a message that was refused, never acknowledged or never returned.
TIMEOUT_SECONDS: Final = 5.0

#: What every message says behind its name, so that one that was changed on its way is none of the schedule's.
SENTENCE: Final = "the quick brown fox jumps over the lazy dog"
_FILLING: Final = "~"


def name_in(text: str, mark: str) -> str:
    """Return the name of a message of the schedule, the tag of its process and its number.

    It is empty for another text, or for one that was changed.
    """
    found = _names(mark).match(text)
    return found[0] if found else ""


@lru_cache
def _names(mark: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(mark)}-[0-9a-f]{{8}} [0-9]+(?= {SENTENCE}{_FILLING}*\Z)")


class Speaker(Protocol):
    echoes: ClassVar[bool]  # whether its messages come back to it

    @property
    def index(self) -> int:
        """Its number in the run."""

    @property
    def room(self) -> str:
        """The room of its messages."""

    def publish(self, number: int, text: str) -> None:
        """Send `text`, asking for an acknowledgement under `number`."""


def _place(speaker: Speaker) -> tuple[int, int]:
    """Its place in the order of turns: shuffled, and the same in a replay.

    The order in which they connected would suit a server that serves one connection after the other.
    """
    return crc32(b"%d" % speaker.index), speaker.index


class Pace(NamedTuple):
    """When messages are due: the rate changes evenly to another over a span, and then stays."""

    begun: float
    from_rate: float
    to_rate: float
    over_seconds: float

    def due(self, number: int) -> float:
        """When the `number`th message, counted from 0, is due: when the integral of the rate reaches that number."""
        meanwhile = (self.from_rate + self.to_rate) / 2 * self.over_seconds
        if number >= meanwhile:
            return self.begun + self.over_seconds + (number - meanwhile) / self.to_rate if self.to_rate else NEVER
        slope = (self.to_rate - self.from_rate) / self.over_seconds
        if not slope:
            return self.begun + number / self.from_rate
        rate = sqrt(max(self.from_rate**2 + 2 * slope * number, 0.0))  # at its end it may round to less than none
        return self.begun + (rate - self.from_rate) / slope


class Traffic:
    def __init__(
        self, random: Random, *, at: Callable[[float, Callable[[], None]], None], lag: Lag, mark: str = "lg"
    ) -> None:
        self._at = at  # calls a function at a given time
        self._lag = lag
        self._rate = 0.0
        self._paces = 0  # so far; a change of it ends the present schedule
        self.tag = f"{mark}-{random.getrandbits(32):08x}"  # distinguishes this process's messages from those of others
        self.booked = TrafficResult()  # without the messages that are outstanding
        self.recent = Recent()  # acknowledgements since the last status
        self.intended = 0
        self.speakers: list[Speaker] = []
        self._had_speakers = False
        self._echoes = False  # whether messages come back to their speakers
        self._waiting: deque[tuple[int, float]] = deque()  # numbers and times, due while every speaker was away
        self._text = SENTENCE  # of each message, behind its name
        self._texts = {SENTENCE}  # of all messages so far
        self._unacknowledged: dict[int, tuple[float, Speaker]] = {}
        self._unreturned: dict[int, tuple[float, Speaker]] = {}
        self._returned: dict[Speaker, int] = {}  # the last of each that came back on its present connection

    def enter(self, speaker: Speaker, *, again: bool = False) -> None:
        """Join the schedule's speakers, which take turns.

        With `again`, what it sent and nobody acknowledged is sent once more: it may be lost with its last connection.
        """
        lost = [number for number, (_, author) in self._unacknowledged.items() if again and author is speaker]
        self._had_speakers = True
        self._echoes = speaker.echoes
        self._returned.pop(speaker, None)
        place = bisect_left(self.speakers, _place(speaker), key=_place)
        if self.speakers[place : place + 1] != [speaker]:
            self.speakers.insert(place, speaker)
        for number in lost:
            speaker.publish(number, self._text_of(number))
        while self._waiting and self.speakers:  # a speaker whose connection fails meanwhile has left
            self._send(*self._waiting.popleft())

    def leave(self, speaker: Speaker) -> None:
        if speaker in self.speakers:
            self.speakers.remove(speaker)

    def dismiss(self, leaving: Container[object]) -> None:
        """Send nothing more through clients that we close; without any other, no message is due any more."""
        self.speakers = [speaker for speaker in self.speakers if speaker not in leaving]
        self._had_speakers = bool(self.speakers)

    def awaits(self, leaving: Container[object]) -> bool:
        waiting = (*self._unacknowledged.values(), *self._unreturned.values())
        return any(speaker in leaving for _, speaker in waiting)

    def start(self, rate: float, *, text_bytes: int = 0, over_seconds: float = 0.0) -> None:
        """Send `rate` messages a second, or change to that rate evenly over `over_seconds`.

        It lasts until `stop`, or until another rate is set.
        """
        self._text = SENTENCE.ljust(text_bytes, _FILLING)
        self._texts.add(self._text)
        pace = Pace(now(), self._rate, rate, over_seconds)
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
            if mine == self._paces:
                self._at(pace.due(self.intended - first), speak)

        speak()

    def stop(self) -> None:
        """Send nothing more; answers are still counted."""
        self._paces += 1
        self._rate = 0.0

    def _speak(self, due: float) -> None:
        number = self.intended
        self.intended += 1
        if self.speakers:
            self._send(number, due)
        elif self._had_speakers:  # before the first speaker, a due message counts for no client
            self._waiting.append((number, due))

    def _send(self, number: int, due: float) -> None:
        speaker = self.speakers[number % len(self.speakers)]
        self._unacknowledged[number] = (due, speaker)
        if speaker.echoes:
            self._unreturned[number] = (due, speaker)
        speaker.publish(number, self._text_of(number))

    def _text_of(self, number: int) -> str:
        return f"{self._name(number)} {self._text}"

    def _name(self, number: int) -> str:
        return f"{self.tag} {number}"

    def acknowledged(self, speaker: Speaker, number: int) -> bool:
        """Book an acknowledgement that came to `speaker`; return whether it was outstanding for it, not for another."""
        due, author = self._unacknowledged.get(number, (0.0, None))
        if author is not speaker:
            return False
        del self._unacknowledged[number]
        self.booked.acknowledged_in[speaker.room] += 1
        self.booked.checksums_in[speaker.room] += crc32(self._name(number).encode())
        took = now() - due
        self.booked.acks.record(took)
        self.recent.latency.record(took)
        return True

    def refused(self, number: int, code: str) -> None:
        self.booked.errors[code] += 1
        due = moment = now()
        for latency, outstanding in (self.booked.acks, self._unacknowledged), (self.booked.echoes, self._unreturned):
            if sent := outstanding.pop(number, None):
                due = sent[0]
                latency.record(max(moment - due, TIMEOUT_SECONDS))
        self.recent.failed.append(due)

    def number_in(self, text: str) -> int | None:
        """Return the number of a message of this schedule, or `None` for another, or for one that was changed."""
        tag, _, rest = text.partition(" ")
        if tag != self.tag:
            return None
        number, _, sentence = rest.partition(" ")
        return whole_number(number) if sentence in self._texts else None

    def heard(self, speaker: Speaker, text: str) -> None:
        """Book that `speaker` received a message, which may be its own."""
        number = self.number_in(text)
        if number is None:
            return
        due, author = self._unreturned.get(number, (0.0, None))
        if author is speaker:
            del self._unreturned[number]
            self.booked.echoes.record(now() - due)
            if number < self._returned.get(speaker, number):
                self.refused(number, "a message came out of order")
            self._returned[speaker] = number

    def found(self, speaker: Speaker, text: str) -> None:
        """Book a message that was in the room when `speaker` came back: its own are stored, receipt or not."""
        number = self.number_in(text)
        if number is not None:
            self.acknowledged(speaker, number)
        self.heard(speaker, text)

    @property
    def acknowledgements(self) -> int:
        return sum(self.booked.acknowledged_in.values())

    def result(self) -> TrafficResult:
        """The results of all messages; an outstanding or unsent one counts with at least the whole timeout."""
        whole = deepcopy(self.booked)
        unsent = [due for _, due in self._waiting]
        acks = [*unsent, *(due for due, _ in self._unacknowledged.values())]
        echoes = [*(unsent if self._echoes else ()), *(due for due, _ in self._unreturned.values())]
        for latency, outstanding in (whole.acks, acks), (whole.echoes, echoes):
            for due in outstanding:
                latency.record(max(now() - due, TIMEOUT_SECONDS))
        whole.unacknowledged, whole.unreturned = len(self._unacknowledged), len(self._unreturned)
        whole.unsent, whole.unanswered = len(self._waiting), acks
        return whole

    @property
    def outstanding(self) -> int:
        """Messages not yet acknowledged, plus messages that have not come back to their sender."""
        return len(self._unacknowledged) + len(self._unreturned)
