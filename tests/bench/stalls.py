"""The longest garbage collection and the longest stall of the loop, with 15,000 held and 500 bad peers a second.

How: 7,500 WebSockets, 5,000 polls and 2,500 event streams are held while bad peers come at a fixed rate: malformed
heads, bad JSON, bad frames, bad UTF-8, resets. The maxima are from /metrics; a maximum from before the bad peers came
is replaced by the highest bucket that grew since. The median of three servers counts.
What would fool it: other work that takes the core from the server within a pass, which counts as its stall. The time
for which the kernel kept the server waiting is in the details.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from chatserver.net.states import State
from loadgen.run import procfs
from tests.bench import wire
from tests.bench.clients import HELLO, Client, Crowd, Step, hear, ignore, must_live
from tests.bench.figures import Result, Scale, at_most
from tests.bench.gauges import metrics
from tests.bench.memory import STEPS
from tests.bench.processes import Process, chatserver
from tests.support.peers import request, upgrade

COLLECTION = at_most("longest garbage collection", " ms", bound=10, aim=3)
STALL = at_most("longest stall of the loop", " ms", bound=30, aim=15)
#: Bad peers a second.
RATE = 500


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one server."""

    collection: float  # ms
    stall: float  # ms
    closes: float
    cpu: float  # share of a core
    waited: float  # share of the time in which it was ready and did not run


def run(scale: Scale) -> Iterator[Result]:
    """Measure fresh servers, because their maxima are never reset."""
    servers = [_measure(scale.of(2_500, 20), scale.of(20.0, 1.0)) for _ in range(scale.of(3, 1))]
    details = (
        f"{RATE} bad/s, {median([each.closes for each in servers]):,.0f} closes counted each time; server at"
        f" {median([each.cpu for each in servers]):.0%} CPU"
    )
    waited = ", ".join(f"{each.waited:.1%}" for each in servers)
    yield Result(figure=COLLECTION, samples=[each.collection for each in servers], details=details)
    yield Result(
        figure=STALL, samples=[each.stall for each in servers],
        details=f"ready, and the kernel ran somebody else, for {waited} of the time",
    )  # fmt: skip


def _measure(unit: int, seconds: float) -> Measured:
    with chatserver() as server, Crowd(server.address) as crowd:
        crowd.open(3 * unit, STEPS[State.OPEN], hear)
        crowd.open(2 * unit, STEPS[State.HELD], ignore)
        crowd.open(unit, STEPS[State.STREAM], must_live)
        crowd.run(min(3.0, seconds))
        before, waited, cpu = metrics(server.address), _waited(server), server.cpu()
        _send_bad_peers(crowd, server, seconds)
        after = metrics(server.address)
        waited, cpu = _waited(server) - waited, server.cpu() - cpu
    return Measured(
        _longest("chatserver_gc", before, after),
        _longest("chatserver_loop_pass", before, after, "chatserver_loop_stall"),
        sum(after[name] - before[name] for name in before if name.startswith("chatserver_closes_total")),
        cpu / seconds,
        waited / seconds,
    )


def _longest(family: str, before: dict[str, float], after: dict[str, float], maximum: str = "") -> float:
    """The longest of a family of times since `before`, in milliseconds."""
    name = f"{maximum or family}_max_seconds"
    if after[name] > before[name]:
        return after[name] * 1e3
    longest, below_before, below_after = 0.0, 0.0, 0.0
    for bucket in (key for key in after if key.startswith(f"{family}_seconds_bucket")):
        edge = float(bucket.partition('le="')[2].partition('"')[0])
        if after[bucket] - below_after > before[bucket] - below_before:
            longest = min(edge, after[name])
        below_before, below_after = before[bucket], after[bucket]
    return longest * 1e3


def _send_bad_peers(crowd: Crowd, server: Process, seconds: float) -> None:
    peers = _bad_peers(crowd, server)
    start, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - start) < seconds:
        while sent < now * RATE:
            peers[sent % len(peers)]()
            sent += 1
        crowd.run_until(start + sent / RATE)
    crowd.run(1.0)


def _bad_peers(crowd: Crowd, server: Process) -> list[Callable[[], object]]:
    get = request("GET", "/healthz")

    def misbehave(*script: Step) -> Callable[[], Client]:
        return lambda: crowd.begin(script, ignore)

    def reset(*script: Step) -> Callable[[], None]:
        return lambda: crowd.abort(crowd.begin(script, ignore))

    return [
        misbehave(Step(get[:-2] + b"no colon in this line\r\n\r\n", b"")),
        misbehave(Step(b"\x16\x03\x01\x02\x00\x01\x00", b"")),
        misbehave(HELLO, Step(b"\x81\x02hi", b"")),
        misbehave(HELLO, Step(b"\x8f\x80\0\0\0\0", b"")),
        misbehave(HELLO, Step(b"\x81\x82\0\0\0\0\xff\xfe", b"")),
        misbehave(Step(get.replace(b"1.1", b"9.9", 1), b"")),
        misbehave(Step(wire.post_message("bench", "x")[:-1] + b"!", b'"error"'), Step(b"\0", b"")),
        reset(),
        reset(Step(get[:-4], b"")),
        reset(Step(upgrade(), b"")),
    ]


def _waited(server: Process) -> float:
    """Seconds for which the server's first thread was ready and did not run."""
    share = procfs.Process(server.pid).share()
    assert share is not None
    return share.waiting
