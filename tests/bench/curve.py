"""Latency against load, of this server and of others on trio, asyncio and uvloop: do loop and parser decide?

How: 100 WebSockets to each server send messages by a schedule that does not wait for answers, at rising rates, in
turns of a second; each message is echoed, or acknowledged when it is durable. Latency counts from the intended moment,
so a server that stalls pays for all messages that it delayed. A cell is the median of its turns. A server is done when
its 99th percentile exceeds `ENOUGH`, or when it refuses a message. CPU is that of the server's process for a message.
What would fool it: a client that is late itself. Its lateness is recorded, and where it may explain a part of the
figure only CPU is told. Client and server have a core each, and at high rates the kernel works on both.
"""

import importlib.util
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeAlias

from loadgen.net.timers import NEVER, WakeUp, now
from loadgen.report.latency import Latency
from tests.bench import wire
from tests.bench.clients import Client, Crowd, Step, hear
from tests.bench.curve_table import Cell, markdown, plots, row
from tests.bench.figures import TIMES, Figure, Plot, Result, Scale, at_least, at_most
from tests.bench.processes import Process, chatserver, peer
from tests.support.peers import frame, upgrade

RATES = (
    500, 1_000, 2_000, 4_000, 6_000, 8_000, 10_000, 12_500, 15_000, 17_500, 20_000, 22_500, 25_000, 30_000, 35_000,
    40_000,
)  # fmt: skip
CLIENTS, TURNS = 100, 3
#: Milliseconds of a 99th percentile at which a server is not asked for more.
ENOUGH = 100.0
#: Milliseconds by which the client may be late at the 99th percentile; beyond them this part of the server's figure.
LATE, LATE_PART = 1.0, 0.25
#: Milliseconds of a 99th percentile that is not noticed in a chat, and the rate at which CPU is compared.
GOOD, COMPARED = 10.0, 2_000
#: Messages sent before answers are read again, when the schedule is behind.
AT_ONCE = 16
#: Seconds in which nothing comes, until the rest counts as lost.
PATIENCE = 5.0

OURS, CHAT, FLOOR, UVLOOP = "chatserver, echo", "chatserver, durable chat", "bare epoll loop, echo", "uvloop"
#: Clients answer no pings between their turns, so no server may ping.
_NO_PINGS = "--ping-interval", "3600"
_ECHO = (Step(upgrade("/echo"), b"\r\n\r\n"),), frame(wire.TEXT), wire.TEXT.encode()
_PUBLISH = (Step(upgrade(), b'"hello"'),), wire.publish("bench", wire.TEXT), b'"ack"'


@dataclass(frozen=True, slots=True)
class Subject:
    """A server, how its clients join, and what they send."""

    name: str
    start: Callable[[], AbstractContextManager[Process]]
    script: Sequence[Step]
    message: bytes
    answer: bytes  # what each answer contains


SUBJECTS = (
    Subject(OURS, partial(chatserver, "--echo", *_NO_PINGS), *_ECHO),
    Subject(CHAT, partial(chatserver, *_NO_PINGS), *_PUBLISH),
    Subject(FLOOR, partial(peer, "echo", "epoll"), *_ECHO),
    Subject("trio-websocket, echo", partial(peer, "echo", "trio"), *_ECHO),
    Subject("websockets on asyncio, echo", partial(peer, "echo", "asyncio"), *_ECHO),
    Subject("websockets on uvloop, echo", partial(peer, "echo", UVLOOP), *_ECHO),
)


def run(scale: Scale) -> Iterator[Result | Plot]:
    cells: list[Cell] = []
    with ExitStack() as stack:
        sides = [Side(each, stack) for each in SUBJECTS if _is_here(each)]
        for rate in scale.of(RATES, (200, 400)):
            running = [side for side in sides if not side.done]
            for _ in range(scale.of(TURNS, 1)):
                for side in running:
                    if not side.done:
                        side.turn(rate, scale.of(1.0, 0.1))
            new = [cell for side in running for cell in side.cells(rate)]
            for cell in new:
                print(" ", ", ".join(row(cell)), file=sys.stderr, flush=True)
            cells += new
    print(markdown(cells), end="\n\n", flush=True)
    yield from results(cells)
    yield from plots(cells)


def _is_here(subject: Subject) -> bool:
    is_here = UVLOOP not in subject.name or importlib.util.find_spec(UVLOOP) is not None
    if not is_here:
        print(f"  {subject.name} is left out: there is no {UVLOOP}", file=sys.stderr, flush=True)
    return is_here


# -- measuring --------------------------------------------------------------------------------------------------------


#: The figures of a `Cell` behind its rate, measured in one turn.
Turn: TypeAlias = tuple[float, float, float, float, float, float]


class Answers:
    """Records the latency of each answer, from the moment when the schedule intended its message."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._waiting: dict[Client, deque[float]] = {}
        self.taken: list[float] = []
        self.refused = 0

    def expect(self, client: Client, intended: float) -> None:
        self._waiting.setdefault(client, deque()).append(intended)

    def __call__(self, client: Client, data: bytes) -> None:
        came = now()
        for payload in hear(client, data):
            if self._answer in payload:
                self.taken.append(came - self._waiting[client].popleft())
            elif b'"error"' in payload:
                self.refused += 1


class Side:
    """A server, its clients, and its turns at one rate."""

    def __init__(self, subject: Subject, stack: ExitStack) -> None:
        self._subject = subject
        self._server = stack.enter_context(subject.start())
        self._crowd = stack.enter_context(Crowd(self._server.address))
        self._wake = stack.enter_context(closing(WakeUp()))
        self._crowd.wake_for(self._wake.fd)
        self._answers = Answers(subject.answer)
        self._clients = self._crowd.open(CLIENTS, subject.script, self._answers)
        self._turns: list[Turn] = []
        self.done = False

    def turn(self, rate: int, seconds: float) -> None:
        """Send by the schedule, and wait for all answers."""
        answers, crowd, wake, message = self._answers, self._crowd, self._wake, self._subject.message
        taken: list[float] = []
        answers.taken = taken
        late: list[float] = []
        count, sent = int(rate * seconds), 0
        cpu, began = self._server.cpu(), now()
        due = began
        while len(taken) + answers.refused < count:
            moment = now()
            for _ in range(AT_ONCE):
                if due > moment:
                    break
                client = self._clients[sent % CLIENTS]
                answers.expect(client, due)
                client.socket.send(message)
                late.append(now() - due)
                sent += 1
                due = began + sent / rate if sent < count else NEVER
            wake.set(due)
            if not crowd.turn(PATIENCE):
                raise TimeoutError(f"{self._subject.name}: {count - len(taken)} of {count} messages got no answer")
        if answers.refused:
            self.done = True
            return
        elapsed, used = now() - began, self._server.cpu() - cpu
        spread, lateness = _latency(taken), _latency(late)
        latencies = _ms(spread, 50), _ms(spread, 99), _ms(lateness, 99)
        self._turns.append((count / elapsed, *latencies, used / count * 1e6, used / elapsed))

    def cells(self, rate: int) -> Iterator[Cell]:
        """The median of the turns since the last cell; none for a rate at which messages were refused."""
        if not self.done:
            turns, self._turns = self._turns, []
            self.done = median([p99 for _, _, p99, *_ in turns]) > ENOUGH
            yield cell_of(self._subject.name, rate, turns)


def cell_of(name: str, rate: int, turns: Sequence[Turn]) -> Cell:
    """The median of all turns, without latencies if the client was late."""
    done, p50, p99, late, cpu, share = map(median, zip(*turns, strict=True))
    withheld = late > LATE and late > LATE_PART * p99
    return Cell(name, rate, done, None if withheld else p50, None if withheld else p99, late, cpu, share)


def _latency(seconds: Sequence[float]) -> Latency:
    latency = Latency()
    for each in seconds:
        latency.record(each)
    return latency


def _ms(latency: Latency, percentile: float) -> float:
    found = latency.at(percentile)
    assert found is not None
    return found * 1e3


# -- results ----------------------------------------------------------------------------------------------------------


def results(cells: Sequence[Cell]) -> Iterator[Result]:
    """The rate and the CPU of this server in relation to those of each other one."""
    ours = [cell for cell in cells if cell.server == OURS]
    for name in dict.fromkeys(cell.server for cell in cells if cell.server not in (OURS, CHAT)):
        theirs = [cell for cell in cells if cell.server == name]
        rates = _borne(ours), _borne(theirs)
        if all(rates):  # else the client was too late to tell
            what = f"echo: rate with p99 below {GOOD:g} ms, of that of: {name}"
            yield _ratio(at_least(what, TIMES, bound=0.5, aim=1.0), rates, "{:,}/s")
        what = f"echo: CPU of a message at {COMPARED:,}/s, of that of: {name}"
        yield _ratio(at_most(what, TIMES, bound=2.0, aim=1.0), (_cost(ours), _cost(theirs)), "{:.1f} µs")


def _ratio(figure: Figure, sides: tuple[float, float], shown: str) -> Result:
    ours, theirs = sides
    return Result(figure=figure, samples=[ours / theirs], details=" against ".join(map(shown.format, sides)))


def _borne(cells: Sequence[Cell]) -> int:
    """The highest rate up to which every measured 99th percentile was good."""
    good = itertools.takewhile(lambda cell: cell.p99_ms is None or cell.p99_ms < GOOD, cells)
    return max((cell.rate for cell in good if cell.p99_ms is not None), default=0)


def _cost(cells: Sequence[Cell]) -> float:
    """The CPU at the rate closest to `COMPARED`."""
    return min(cells, key=lambda cell: abs(cell.rate - COMPARED)).cpu_us
