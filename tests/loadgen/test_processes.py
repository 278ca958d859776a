"""Players: what several processes tell is one report, and none of them outlives or outwits its conductor."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock, NonCallableMock

import msgspec
import pytest
import trio
import trio.testing

from loadgen.clients.messages import Call, GroupStatus, Reread, Result, Status, TrafficResult, encode, messages_in
from loadgen.report.latency import Late, Latency, Recent
from loadgen.report.schema import Outcome
from loadgen.run import workers
from loadgen.run.crowd import Crowd
from loadgen.run.experiment import Phase
from loadgen.run.player import Player
from loadgen.run.preflight import InvalidRunError
from loadgen.run.procfs import Share
from loadgen.run.session import Session
from loadgen.run.span import Reading
from loadgen.run.workers import Worker, WorkerError, Workers, merge
from tests.loadgen import forked
from tests.loadgen.planted import Plant, planted
from tests.loadgen.plays import attacked, plan, play_run
from tests.loadgen.readings import NOBODY, lasted
from tests.support.running import is_running

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def workers_start() -> None:
    """As the program starts them, but for tests that use `forked_workers`."""


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in other modules, where a start is not what is proved: a real one takes 0.3 s of CPU."""
    monkeypatch.setattr(workers, "start", forked.start)


async def test_two_processes_play_one_crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They import what the program does, not what is in the folder it is run in, or in the environment."""
    for module in ("msgspec", "loadgen"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with planted() as server:
        report = await play_run(
            server.url, {"idle": 21, "poll": 10, "chat": 4}, rate=40, seconds=1.0, rooms=("a", "b"), processes=2
        )
        crowd = server.accepted_from - {"127.0.0.1"}  # from which it was asked how far away it is
        assert len(crowd) == 2, "each process comes from addresses of its own"
    assert report.figures["held"] == 35
    assert report.figures["unacknowledged"] == report.figures["unreturned"] == report.figures["failed"] == 0
    assert {row.persona: row.held for row in report.cohorts} == {"idle": 21, "poll": 10, "chat": 4}
    assert report.phases[0].succeeded == report.phases[0].spread.count >= 20


@pytest.mark.usefixtures("forked_workers")
async def test_a_replay_makes_the_same_choices() -> None:
    """The chatters speak in an order that the seed decides; rooms are heard in the order of speaking."""
    heard = []
    for _ in range(2):
        with planted() as server:
            await play_run(server.url, {"chat": 6}, rate=100, seconds=0.5, rooms=tuple("abcdef"))
            numbers = {room: [text.split()[1] for text in texts] for room, texts in server.rooms.items()}
            heard.append({room: texts[:2] for room, texts in numbers.items()})
    assert heard[0] == heard[1]


@pytest.mark.usefixtures("forked_workers")
async def test_an_attacking_crowd_gives_way_and_victims_do_not() -> None:
    session = Session(plan(NOBODY))

    async def act() -> None:
        victims = await session.spawn_victims()
        crowd = await session.spawn_crowd(niceness=7)
        ours = os.getpriority(os.PRIO_PROCESS, 0)
        way = min(7, 19 - ours)  # there is nothing beyond 19

        def beside_ours(pid: int) -> int:
            return os.getpriority(os.PRIO_PROCESS, pid) - ours

        assert await session.until(lambda: beside_ours(crowd.workers[0].watched.pid) == way, 30)
        assert beside_ours(victims.watched.pid) == 0

    await session.play(act)


@pytest.mark.usefixtures("forked_workers")
async def test_a_phase_has_begun_when_everybody_books_in_it() -> None:
    """Attackers came while a busy process of victims had not yet heard that the baseline was over."""
    session, entered = Session(plan(NOBODY)), []

    async def enter() -> None:
        await session.enter("attack")
        entered.append("attack")

    async def act() -> None:
        victims = await session.spawn_victims()
        os.kill(victims.watched.pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(enter)
            await trio.sleep(0.3)
            assert not entered
            os.kill(victims.watched.pid, signal.SIGCONT)
        assert entered
        assert victims.up_to_date

    await session.play(act)


@pytest.mark.usefixtures("forked_workers")
async def test_what_was_sent_in_a_phase_is_counted_up_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was as old as the last periodic status of each process: of three seconds, 6% were missing."""
    answered, reading = [], Player._reading

    def read(player: Player) -> Reading:
        answered.extend([player._crowd.workers[0].current.calls] * (player._session.phase == "steady"))
        return reading(player)

    monkeypatch.setattr(Player, "_reading", read)
    with planted() as server:
        await play_run(server.url, {"idle": 2}, seconds=0.1)
    begun, ended = answered
    assert ended == begun + 1, "it was asked once more"


@pytest.mark.usefixtures("forked_workers")
async def test_a_player_that_dies_makes_the_run_invalid() -> None:
    session = Session(plan(NOBODY))

    async def act() -> None:
        crowd = await session.spawn_crowd()
        os.kill(crowd.workers[0].watched.pid, signal.SIGKILL)
        await session.until(lambda: crowd.workers[0].ended, 30)
        with pytest.raises(WorkerError, match="died"):
            await session.until(lambda: crowd.has_opened, 30)
        await crowd.call(Crowd.open, "crowd", 1.0)

    await session.play(act)
    assert "died" in session.faults()[0]


@pytest.mark.usefixtures("forked_workers")
async def test_a_player_that_dies_leaves_the_report_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was reported of a long attack whose crowd ran out of memory in the end."""
    open_, start, crowds = Player._open, workers.start, []

    async def start_and_note(part: workers.PartName) -> trio.Process:
        process = await start(part)
        crowds.extend([process] * (part == "crowd"))
        return process

    async def open_and_kill(player: Player, phase: Phase, part: float) -> None:
        await open_(player, phase, part)
        if phase.name == "attack":
            crowds[0].kill()
            await crowds[0].wait()

    monkeypatch.setattr(workers, "start", start_and_note)
    monkeypatch.setattr(Player, "_open", open_and_kill)
    report = await attacked(Plant(), {"idle-connect": 2})
    assert report.outcome is Outcome.INVALID
    assert "died" in report.verdict.reasons[0]
    assert any(row.succeeded for row in report.phases if row.name == "baseline")
    assert all(row.seconds for row in report.phases), "up to its death"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.stdin.buffer.read(1)", "could not start"),
        ("raise SystemExit(1)", "could not start"),
        ("import time; time.sleep(600)", "does not answer"),
    ],
)
async def test_a_player_that_does_not_begin_makes_the_run_invalid(
    code: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was left behind: its process, and the pipes to it. One that ended before it read its role was a traceback."""

    async def start(part: str) -> trio.Process:
        process = await trio.lowlevel.open_process([sys.executable, "-c", code], stdin=-1, stdout=-1)
        if "Exit" in code:
            await process.wait()
        return process

    monkeypatch.setattr(workers, "start", start)
    monkeypatch.setattr(workers, "LEAVE_SECONDS", 0.1)
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 60.0 if told == "could not start" else 0.1)
    session = Session(plan(NOBODY))

    async def act() -> None:
        await session.spawn_crowd()

    await session.play(act)
    assert told in session.faults()[0]


@pytest.mark.parametrize("is_stop", [True, False])
async def test_what_ends_a_run_may_come_out_of_a_nursery(is_stop: bool) -> None:
    """As it does while attackers are counted: Ctrl-C there was a traceback once."""
    session = Session(plan(NOBODY))

    async def act() -> None:
        async with trio.open_nursery():
            if not is_stop:
                raise InvalidRunError("the crowd is gone")
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with nullcontext() if is_stop else pytest.raises(InvalidRunError, match="the crowd is gone"):
        await session.play(act)
    assert session.stopped is is_stop


def test_a_player_ends_with_its_conductor() -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'loadgen.run.worker', 'crowd'],"
        " stdin=subprocess.PIPE); print(p.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1, stderr=-3) as conductor:
        assert conductor.stdout is not None
        pid = int(conductor.stdout.readline())
        conductor.kill()
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def _account(persona: str, held: int, ages: list[float]) -> Result:
    lived = lasted(*(1000 * age for age in ages))
    group = GroupStatus(
        persona=persona, group="g", wanted=held, held=held, peak=held, opened=held, came=held, starved=0, left=0,
        refused={"full": 1}, failed={}, ended={}, answers={}, sent_bytes=1, received_bytes=2, deliveries=3,
        lifetime=lived,
    )  # fmt: skip
    return Result(
        groups=[group],
        lags=[("crowd", "attack", Late(lived, Latency(), Latency()))],
        reread=Reread(asked=held, lost=1, unreadable="answered 500") if ages else Reread(asked=0, lost=0),
        own_faults={"no ports": held},
        listeners=[("lobby", 3, 30, held)],
        traffic=TrafficResult(acknowledged_in={"lobby": 2}, checksums_in={"lobby": 20}),
    )


async def test_accounts_are_merged_by_persona_and_never_averaged() -> None:
    told = (_account("a", 3, [1.0]), _account("a", 4, [1.0, 9.0]), _account("b", 5, []))
    totals = merge([word async for word in messages_in(_stream(b"".join(map(encode, told)), 1000))])
    groups = [(group.persona, group.held, group.refused) for group in totals.groups]
    assert groups == [("a", 7, {"full": 2}), ("b", 5, {"full": 1})]
    lives = [group.lifetime for group in totals.groups]
    assert [(each.count, each.longest) for each in lives] == [(3, 9.0), (0, None)]
    assert lives[0].at(50) == pytest.approx(1.0, rel=0.01)
    assert totals.lag("crowd", 100, ("attack",)) == pytest.approx(9.0, rel=0.01), "of the latest process"
    assert totals.lag("crowd", 100, ("recovery",)) is totals.lag("victims", 100, ("attack",)) is None
    assert totals.missed() == (7 + 5) * (6 - 3), "six messages for each, of which each got three"
    assert totals.surplus() == 0
    more = msgspec.structs.replace(totals, listeners=[("lobby", 8, 80, 2), ("lobby", 5, 50, 1), ("quiet", 1, 9, 1)])
    assert (more.missed(), more.surplus()) == (1, 2 * (8 - 6) + 1), "what one has too much is not another's"
    swapped = msgspec.structs.replace(totals, listeners=[("lobby", 6, 60, 2), ("lobby", 6, 61, 3)])
    assert (swapped.missed(), swapped.surplus()) == (3, 3), "as many as were due, and not the same"
    traffic = msgspec.structs.replace(totals.traffic, unacknowledged=1)
    doubtful = msgspec.structs.replace(swapped, traffic=traffic, listeners=[*swapped.listeners, ("lobby", 8, 80, 2)])
    assert (doubtful.missed(), doubtful.surplus()) == (0, 2), "the one without an acknowledgement may have come"
    assert totals.reread == Reread(asked=7, lost=2, unreadable="answered 500"), "the third looked for none"
    assert totals.listeners == [("lobby", 3, 30, 3), ("lobby", 3, 30, 4), ("lobby", 3, 30, 5)]
    assert totals.own_faults == {"no ports": 12}


def _worker(*, up_to_date: bool = True, outstanding: int = 0, **status: Any) -> Mock:
    current = Status(calls=1, outstanding=outstanding, recent=Recent(), **status)
    return NonCallableMock(Worker, up_to_date=up_to_date, current=current, status=current)


@pytest.mark.parametrize(
    ("other", "has_opened", "is_quiet"),
    [
        (_worker(), True, True),
        (_worker(up_to_date=False), False, False),
        (_worker(has_opened=False), False, True),
        (_worker(outstanding=1), True, False),
    ],
)
def test_a_crowd_is_as_far_as_the_last_of_its_processes(other: Mock, has_opened: bool, is_quiet: bool) -> None:
    for crowd in (Workers([_worker(), other]), Workers([other, _worker()])):
        assert (crowd.has_opened, crowd.quiet) == (has_opened, is_quiet)


def test_a_crowd_has_what_all_of_its_processes_have() -> None:
    held = {"beside": 3, "crowd": 4}
    groups = [GroupStatus(persona="idle", group=name, wanted=9, held=number) for name, number in held.items()]
    crowd = Workers([_worker(groups=groups, last_came=2.0), _worker(groups=groups[1:], last_came=1.0)])
    assert (crowd.held("crowd"), crowd.held("beside"), crowd.last_came) == (8, 3, 2.0)


def _stream(data: bytes, cut: int) -> trio.abc.ReceiveStream:
    """These bytes, in pieces of that size."""
    pieces = [*(data[at : at + cut] for at in range(0, len(data), cut)), b""]
    return Mock(receive_some=AsyncMock(side_effect=pieces))


@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
async def test_words_are_words_however_they_are_cut(cut: int) -> None:
    said: list[Call] = [("one", (), {}), ("two", (1, {"a": 2}), {}), ("three", (), {"b": b"\n"})]
    assert [word async for word in messages_in(_stream(b"".join(map(encode, said)), cut))] == said


def test_the_timeline_ends_each_phase_when_it_ended() -> None:
    """An attack of 6 s was drawn 7 s wide, and attackers before its line."""
    session, victims = Session(plan(NOBODY)), NonCallableMock(Worker, recent=Recent())
    session._heard = [victims]
    for phase in ("baseline", "attack", "recovery"):
        session.begin(phase)
    assert [sample.phase for sample in session.timeline] == ["start", "baseline", "attack"]


def test_a_failure_is_in_the_timeline_where_its_operation_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the attack hurt was told of the recovery, a timeout later: `recover_s` was 7 s where nothing had failed."""
    clock = [100.0]
    for module in ("loadgen.report.schema", "loadgen.run.session"):
        monkeypatch.setattr(f"{module}.now", lambda: clock[0])
    session, victims = Session(plan(NOBODY)), NonCallableMock(Worker, recent=Recent())
    session._heard = [victims]
    for phase in ("baseline", "attack", "recovery", "drain"):
        clock[0] += 1.0
        session.begin(phase)
    victims.recent.failed = [102.5, 103.5, 102.0, 104.5]
    clock[0] = 105.0
    session.begin("end")
    assert [sample.failed for sample in session.timeline] == [0, 1, 1, 1, 1]
    assert session.failed == 4, "the live view adds them up"


@pytest.mark.parametrize(("is_of_victims", "failed"), [(False, [1, 2]), (True, [0, 0])])
async def test_messages_that_were_never_answered_failed_when_they_were_due(
    is_of_victims: bool, failed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server was gone after three of eight seconds, and in the other five nothing had failed."""
    clock = [100.0]
    for module in ("loadgen.report.schema", "loadgen.run.session"):
        monkeypatch.setattr(f"{module}.now", lambda: clock[0])
    session = Session(plan(NOBODY))
    traffic = TrafficResult(unanswered=[100.5, 101.5, 101.6])
    monkeypatch.setattr(session, "_results", AsyncMock(return_value=[Result(traffic=traffic)]))

    async def act() -> None:
        session._heard = [] if is_of_victims else None
        clock[0] = 101.0
        session.begin("steady")
        clock[0] = 102.0

    await session.play(act)
    assert [sample.failed for sample in session.timeline] == failed


async def test_a_process_is_measured_from_when_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it used was divided by the whole run: a page that took 10 s beforehand made a busy generator a quiet one."""
    clock = [0.0]
    monkeypatch.setattr("loadgen.run.session.now", lambda: clock[0])
    watched = Mock(share=lambda: Share(running=clock[0] - 10.0, waiting=(clock[0] - 10.0) / 2))
    worker = NonCallableMock(Worker, watched=watched, recent=Recent(), status=None)
    worker.send_result.return_value = Result()
    monkeypatch.setattr("loadgen.run.session.spawn", AsyncMock(return_value=worker))
    session = Session(plan(NOBODY))

    async def act() -> None:
        clock[0] = 10.0
        await session.spawn_victims()
        clock[0] = 14.0

    await session.play(act)
    assert session.spent == {"own_cpu_percent": 100.0, "own_cpu_wait_percent": 50.0}


async def test_ctrl_c_does_not_reach_a_worker_that_is_starting() -> None:
    """It died in its imports with a traceback, and the run was invalid, not interrupted; a scorecard went on."""
    process = await workers.start("crowd")
    try:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    finally:
        process.kill()
        await process.wait()
