"""`run` against servers with planted behaviours: the report must name what was planted, and nothing else."""

from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio

from loadgen.personas import registry
from loadgen.report.schema import CohortRow, Outcome, Report
from loadgen.run import procfs
from loadgen.run.experiment import Counts, Experiment, Group, Phase
from loadgen.run.player import Player
from loadgen.run.preflight import InvalidRunError
from loadgen.run.procfs import Ticks
from loadgen.run.session import LOOKS
from tests.loadgen.planted import Plant, planted, planted_process
from tests.loadgen.plays import COUNTS, by_counts, figure, plan, play_run, ran

EVERYBODY = {"idle": 20, "poll": 10, "sse": 5, "chat": 5}


def _row(report: Report, persona: str) -> CohortRow:
    return next(row for row in report.cohorts if row.persona == persona)


async def test_a_healthy_server_holds_also_by_ipv6_which_has_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside it: what the host took of the processors is that of the steady window."""
    opening, steady = (Ticks(0, 0), Ticks(1000, 50)), (Ticks(1000, 50), Ticks(1200, 56))
    readings = iter([*opening, *steady])
    monkeypatch.setattr(procfs, "ticks", lambda: next(readings))
    with planted(host="::1") as server:
        report = await play_run(server.url, EVERYBODY, rate=50, rooms=("a", "b"), judged=by_counts)
    assert server.accepted_from == {"::1"}
    assert report.outcome is Outcome.HELD, report.verdict
    assert report.figures["held"] == 40
    for name in COUNTS:
        assert report.figures[name] == 0, name
    sent = report.phases[0].succeeded
    assert sent == report.phases[1].succeeded >= 5, "of thirty, if the crowd begins half a second late"
    # two rooms, each with half of the clients: every message reaches 10 idle, 5 polls, and 2 or 3 streams and chatters
    assert _row(report, "idle").deliveries == 10 * sent
    assert 2 * sent <= _row(report, "sse").deliveries <= 3 * sent
    assert 2 * sent <= _row(report, "chat").deliveries <= 3 * sent
    assert _row(report, "poll").deliveries == 5 * sent
    assert report.figures["steal_percent"] == 3.0


async def test_a_stalled_server_is_charged_with_the_messages_that_waited() -> None:
    """No coordinated omission: 20 messages a second were due while it slept, and all of them count."""
    report = await ran(Plant(stall_on_text="0 ", stall=1.0), {"chat": 10}, rate=20, seconds=1.5)
    spread = report.phases[0].spread
    assert spread.count >= 20
    assert spread.p50_ms is not None
    assert spread.p50_ms > 100, "a closed loop would have reported one slow message"


async def test_members_thrown_out_are_counted_with_their_age() -> None:
    report = await ran(Plant(close_members_after=0.4), {"idle": 10, "sse": 3}, seconds=2.0)
    row = _row(report, "idle")
    thrown_out = row.ended["closed"]  # by a busy machine perhaps not all of them
    assert row.held == 10 - thrown_out
    assert row.lifetime.p50_ms is not None
    assert row.lifetime.p50_ms >= 399
    assert _row(report, "sse").ended == {}
    assert any(f"ended is {thrown_out}" in reason for reason in report.verdict.reasons)


async def test_a_server_that_turns_everybody_away_is_given_up_at_once_and_not_called_broken() -> None:
    """The other phases were played with nobody in them."""
    report = await ran(Plant(refuse=True), EVERYBODY, rate=10, seconds=600.0)
    assert report.outcome is Outcome.FELL_SHORT
    assert report.verdict.reasons[0] == "nobody was established: answered 503"
    assert _row(report, "idle").refused.keys() == {"answered 503"}
    assert report.figures["failed"] == 0


async def test_clients_that_are_neither_established_nor_given_up_are_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadgen.run.player.FIRST_SECONDS", 4.0)
    monkeypatch.setattr("loadgen.run.player.OPEN_DEADLINE_SECONDS", 0.1)
    with pytest.raises(InvalidRunError, match="neither established nor given up"):
        await ran(Plant(unanswered_room="dead"), {"idle": 4}, rooms=("lobby", "dead"))


async def test_polls_ask_again_from_their_cursor_also_when_every_answer_closes() -> None:
    asked = "after=e-1&wait=0.3"
    for seconds in (1.0, 10.0):  # a busy machine may need longer
        with planted(Plant(close_after_poll=True)) as server:
            report = await play_run(server.url, {"poll": 4, "chat": 1}, rate=8, seconds=seconds, poll_wait=0.3)
        assert report.figures["ended"] == report.figures["failed"] == 0
        assert _row(report, "poll").deliveries == 4 * report.phases[0].succeeded
        if has_asked := any(asked in request for request in server.requests):
            break
    assert has_asked


@pytest.mark.parametrize("others", [2, 0])
async def test_speakers_that_leave_take_no_message_with_them(others: int) -> None:
    """The schedule went on through clients that were gone, and a sound server was blamed for the silence."""
    counts = {"a": 2, "b": others} if others else {"a": 2}
    load = Experiment(
        command="scenario",
        groups=tuple(Group(name=name, counts={registry()["chat"]: number}) for name, number in counts.items()),
        phases=(
            Phase(name="in", counts_as=Counts.OPENING, open=dict.fromkeys(counts, 1.0)),
            Phase(name="all", counts_as=Counts.LOAD, seconds=0.6, rate=50, close=("a",)),
            Phase(name="some", counts_as=Counts.LOAD, seconds=0.6),
        ),
        drain_seconds=20.0,
    )
    with planted(Plant(delay=0.1)) as server:
        report = await Player(by_counts(plan(server.url)), load).play()
    assert report.outcome is Outcome.HELD, report.verdict
    assert report.figures["unacknowledged"] == report.figures["unreturned"] == 0
    assert report.phases[0].succeeded >= (50 if others else 20)
    assert max(sample.held["chat"] for sample in report.timeline) == 2 + others, "of both groups"


@pytest.mark.parametrize("other", [b"302 Found", b"204 No Content", b"200 OK"])
async def test_a_server_that_has_no_page_any_more_once_the_run_begins(other: bytes) -> None:
    """It was held, as the page was known from the first answer of the run alone."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    none = b"HTTP/1.1 " + other + b"\r\n" + b"Content-Length: 0\r\n" * (b"204" not in other) + b"\r\n"
    connections = count()

    async def serve(stream: trio.SocketStream) -> None:
        number, rest = next(connections), b""
        while data := await stream.receive_some():
            *heads, rest = (rest + data).split(b"\r\n\r\n")
            await stream.send_all((page if number < LOOKS else none) * len(heads))

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        report = await play_run(url, {"request": 2}, rate=20, judged=by_counts)
        nursery.cancel_scope.cancel()
    assert report.outcome is Outcome.FELL_SHORT
    assert report.figures["message_errors"]


async def test_the_last_messages_may_reach_the_others_later_than_their_authors() -> None:
    """Half a second without a delivery ended the run: on a busy machine, messages on their way were called missed."""
    with planted(Plant(others_later=2.0)) as server:
        report = await play_run(server.url, {"chat": 3}, rate=20)
    assert report.figures["missed"] == 0


async def test_clients_that_are_not_due_yet_are_not_missed() -> None:
    """While attackers came slowly, a chat was said not to answer as one, although nobody had asked it."""
    counts = {"attackers": {registry()["idle-connect"]: 4}, "crowd": {registry()["idle"]: 1}}
    slowly = Experiment(
        command="scenario",
        groups=tuple(Group(name=name, counts=number) for name, number in counts.items()),
        phases=(
            Phase(name="slowly", counts_as=Counts.OPENING, open={"attackers": 1.0}, seconds=0.3),
            Phase(name="opening", counts_as=Counts.OPENING, open={"crowd": 1.0}),
            Phase(name="steady", counts_as=Counts.LOAD, seconds=0.2),
        ),
    )
    with planted() as server:
        report = await Player(replace(plan(server.url), connect_rate=2.0), slowly).play()
    assert report.figures["held"] == 1


async def test_memory_and_cpu_of_a_process_are_measured() -> None:
    """Of one of its own: in the tests' process the garbage of other tests is collected meanwhile, and it shrinks."""
    with planted_process(Plant(leak_bytes=20_000), watched=True) as (url, pid):
        report = await play_run(url, {"idle": 200}, server_pid=pid)
    grown = figure(report, "server_bytes_per_connection")
    assert grown > 10_000, "most of the 20,000 is memory that the process did not have before"
    assert report.figures["server_cpu_us_per_connection_s"] is not None


async def test_everything_is_given_back() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with planted() as server:
        await play_run(server.url, {"idle": 5})
        before = descriptors()
        await play_run(server.url, EVERYBODY, rate=10)
        # the server notices hang-ups a moment later
        assert server.idle.wait(60)
        assert descriptors() <= before
