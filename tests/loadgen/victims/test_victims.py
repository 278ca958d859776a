"""Victims of every kind against a sound server and a faulty one."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import trio

from loadgen.clients.messages import PhaseResult, Role
from loadgen.net.answers import UNANSWERED
from loadgen.net.target import find
from loadgen.net.timers import now
from loadgen.net.websocket import ClosedError
from loadgen.protocols import ESTABLISHED, MIXES, WHAT
from loadgen.protocols.chat_v1 import PollVictim, StreamVictim, WebSocketVictim
from loadgen.protocols.http import GetVictim
from loadgen.protocols.ws_echo import EchoVictim
from loadgen.report.schema import Report
from loadgen.run.runner import ProbeRunner
from loadgen.run.session import Session
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import Newcomers, OperationFailedError, PlannedEndError, Victim
from tests.loadgen.planted import Plant
from tests.loadgen.plays import attacked, plan
from tests.loadgen.stage import PATIENCE, until

EVERY_CHATTER = dict.fromkeys(MIXES["chat"], 2)


def _by_kind(report: Report, phase: str) -> dict[str, int]:
    """Of those that stay; newcomers come beside them."""
    return {row.what: row.succeeded for row in report.phases if row.name == phase and row.what in ESTABLISHED.values()}


async def test_every_kind_of_a_chat_s_users_gets_through() -> None:
    report = await attacked(Plant(delay=0.15), {"idle-connect": 3}, victims=EVERY_CHATTER)
    assert list(_by_kind(report, "attack")) == [WHAT[kind] for kind in MIXES["chat"]]
    assert all(count >= 5 for count in _by_kind(report, "attack").values())
    assert report.figures["success_percent"] == 100
    assert report.figures["recovery_failed"] == 0
    for kind in MIXES["chat"]:
        assert report.figures[f"attack_{kind}_p99_ms"] is not None
    [members] = [row for row in report.phases if (row.name, row.what) == ("attack", WHAT["ws"])]
    assert members.spread.p50_ms is not None
    assert members.spread.p50_ms >= 150, "what was planted is what its users felt"
    assert sum(sample.succeeded for sample in report.timeline) >= sum(_by_kind(report, "attack").values())


async def test_users_of_a_server_that_closes_after_each_answer_connect_again_and_again() -> None:
    """Victims that post could not do their work there, and behind nginx one in `keepalive_requests` failed."""
    kinds = {"get": 2, "poll": 2, "sse": 2}
    report = await attacked(Plant(close_after_poll=True), {"idle-connect": 1}, victims=kinds, newcomers_per_s=0)
    assert all(_by_kind(report, "attack")[WHAT[kind]] >= 5 for kind in kinds)
    assert report.figures["success_percent"] == 100


async def played(kind: type[Victim], is_over: Callable[[Victim], bool]) -> list[PhaseResult]:
    """The results of a victim with one operation, which is due almost at once."""
    context = Context(find("http://127.0.0.1:1"), "run")
    context.recorder.timeout_seconds = PATIENCE
    victim = kind(context, 3, Schedule(now() + 0.1, 3600.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.clock.run)
        nursery.start_soon(victim.run)
        await until(lambda: is_over(victim))
        nursery.cancel_scope.cancel()
    return context.recorder.results(Counter())


@pytest.mark.parametrize(
    ("is_in", "reason", "failed"),
    [
        (True, "cut off", {"cut off": 1}),
        (True, UNANSWERED, {}),  # what it waited for has failed already
        (False, "cut off", {}),
    ],
)
async def test_a_victim_that_is_cut_off_between_two_operations_has_failed_once(
    is_in: bool, reason: str, failed: dict[str, int]
) -> None:
    """It was back before the next operation was late, and a server that cut off its users was held."""

    class CutOff(EchoVictim):
        async def live(self) -> None:
            if is_in:
                self.connected()
            raise OperationFailedError(reason)

    results = await played(CutOff, lambda victim: bool(victim._issued))
    assert [result.failed for result in results] == [failed] * bool(failed)


async def test_an_answer_after_its_time_is_a_failure() -> None:
    """Nothing noticed when only what was never answered failed, and an answer a minute late was a good one."""
    asked, answered = list[int](), trio.Event()

    class Late(EchoVictim):
        async def live(self) -> None:
            self.connected()
            asked.append(number := await self.next_operation())
            await answered.wait()
            self.book(number)

    context = Context(find("http://127.0.0.1:1"), "run")
    context.recorder.timeout_seconds = 30.0
    victim = Late(context, 0, Schedule(now(), 3600.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(victim.live)
        victim.issue(moment := now() + 0.001)
        await until(lambda: bool(asked))
        victim.issue(moment + 30.0)
        answered.set()
        await until(lambda: not victim.pending)
        nursery.cancel_scope.cancel()
    [result] = context.recorder.results(Counter())
    assert (result.latency.count, sum(result.failed.values())) == (1, 1)


@pytest.mark.parametrize("planned", [ClosedError("close 1001", 1001), PlannedEndError("the event stream ended")])
@pytest.mark.parametrize(
    ("ends", "is_owed", "is_repeated", "is_failed"),
    [
        (1, False, False, False),  # a connection has a planned life, and the client is let in again
        (4, False, False, False),  # and by workers that are the next to restart
        (5, False, False, True),  # such lives are over at once, again and again
        (1, True, False, True),  # an operation was owed
        (1, True, True, False),  # it is said again, as it could cross with the end
        (5, True, True, True),
    ],
)
async def test_a_planned_end_between_two_operations_is_no_failure_unless_it_comes_again_at_once(
    planned: Exception, ends: int, is_owed: bool, is_repeated: bool, is_failed: bool
) -> None:
    lives = 0

    class Ended(EchoVictim):
        repeats = is_repeated

        async def live(self) -> None:
            nonlocal lives
            lives += 1
            self.connected()
            if lives <= ends:
                if is_owed:
                    await self.next_operation()
                raise planned
            self.book(await self.next_operation())

    [result] = await played(Ended, lambda victim: bool(victim._issued) and not victim.pending)
    assert result.latency.count == 1
    assert result.failed == ({str(planned): 1} if is_failed else {})


@pytest.mark.parametrize("is_back_first", [True, False])
@pytest.mark.parametrize(("receipt", "is_wrong"), [(7, False), (0, False), (8, True)])
def test_a_receipt_and_its_message_have_the_same_offset(receipt: int, is_wrong: bool, is_back_first: bool) -> None:
    """A user with the receipt of another user's message was served, and would have resumed from the wrong place."""
    victim = WebSocketVictim(Context(find("http://127.0.0.1:1"), "run"), 3, Schedule(0.0, 1.0))
    victim.pending = {0: 0.0}
    steps: list[Callable[[], None]] = [lambda: victim.heard("run-3 0", 7), lambda: victim.acknowledge(0, receipt)]
    failure = "a message at another offset than acknowledged"
    with pytest.raises(OperationFailedError, match=failure) if is_wrong else nullcontext():
        for step in steps if is_back_first else reversed(steps):
            step()
    assert bool(victim.pending) is is_wrong


@pytest.mark.parametrize(
    ("kind", "texts", "booked", "failure"),
    [
        (EchoVictim, ["run-3 0", "others 1", "run-3 one", "run-3 2"], [0, 2], ""),
        (EchoVictim, ["run-3 0", "run-3 0"], [0], "a message came twice"),
        (EchoVictim, ["run-3 0", "run-30 1"], [0], "a message of another client"),
        (EchoVictim, ["run-3 1", "run-3 0"], [0, 1], ""),  # some servers answer concurrently
        (StreamVictim, ["run-3 1", "run-3 0"], [], "a message came out of order"),
        # what attackers say is of no victim, and was taken for what others may say
        (WebSocketVictim, ["run-3 0", "lobby: hello"], [], "a message of another room"),
        (WebSocketVictim, ["run-3 0", "run-3: hello"], [], ""),
    ],
)
def test_a_victim_takes_its_own_messages_once_and_in_order(
    kind: type[Victim], texts: list[str], booked: list[int], failure: str
) -> None:
    victim = kind(Context(find("http://127.0.0.1:1"), "run"), 3, Schedule(0.0, 1.0))
    victim.pending = {0: 0.0, 1: 1.0, 2: 2.0}
    with pytest.raises(OperationFailedError, match=failure) if failure else nullcontext():
        for text in texts:
            room, _, said = text.rpartition(": ")
            victim.heard(said, room=room)
    assert sorted({0, 1, 2} - victim.pending.keys()) == booked


@pytest.mark.parametrize(("offsets", "is_wrong"), [((3, 4), False), ((0, 0), False), ((3, 3), True), ((3, 2), True)])
def test_each_message_has_an_offset_above_those_before_it(offsets: tuple[int, int], is_wrong: bool) -> None:
    """A server that gave all messages one offset was held: nobody could have resumed from there."""
    victim = PollVictim(Context(find("http://127.0.0.1:1"), "run"), 3, Schedule(0.0, 1.0))
    victim.heard("run-3 0", offsets[0])
    with pytest.raises(OperationFailedError, match="at the offset of another") if is_wrong else nullcontext():
        victim.heard("run-3 1", offsets[1])


@pytest.mark.parametrize("kind", [WebSocketVictim, PollVictim, StreamVictim])
def test_a_message_must_be_both_acknowledged_and_back(kind: type[Victim]) -> None:
    """By POST it counted as soon as it was back, whatever was answered then."""
    context = Context(find("http://127.0.0.1:1"), "run")
    victim = kind(context, 3, Schedule(0.0, 1.0))
    victim.pending = {0: 0.0, 1: 1.0, 2: 2.0}
    victim.heard("run-3 0")
    victim.heard("run-3 1")
    victim.acknowledge(2)
    assert victim.pending.keys() == {0, 1, 2}
    victim.acknowledge(0)
    victim.book(1, "answered 500")
    assert victim.pending.keys() == {2}
    victim.heard("run-3 2")
    assert not victim.pending, "acknowledged first, or back first"
    assert [result.failed for result in context.recorder.results(Counter())] == [{"answered 500": 1}]


def test_two_runs_with_one_seed_have_different_rooms_and_messages() -> None:
    """At the same time each found the other's messages in its rooms: 609 of 807 were called lost."""
    role = Role(target=find("http://127.0.0.1:1"), seed=1, connect_rate=0.0)
    assert ProbeRunner(role)._context.tag != ProbeRunner(role)._context.tag
    marks = [Session(plan("http://127.0.0.1:1"))._mark for _ in range(2)]
    assert len(set(marks)) == 2


async def test_a_limit_of_this_machine_is_no_failure_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors or ports no victim could connect, and the server fell short for it."""

    def none_left(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("loadgen.victims.probe.dial", none_left)
    runner = ProbeRunner(Role(target=find("http://127.0.0.1:1"), seed=1, connect_rate=0.0))
    context, later = runner._context, Schedule(now() + 3600, 1.0)
    await Newcomers(context, GetVictim, later, 0)._come(0, now() + PATIENCE)
    context.reason_of(ConnectionRefusedError(111, "Connection refused"))
    assert runner.result().own_faults == {"too many open files": 1}, "and of the server's refusal"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(GetVictim(context, 0, later).run)
        await until(lambda: runner.result().own_faults == {"too many open files": 2})
        nursery.cancel_scope.cancel()
    broken = trio.BrokenResourceError("socket connection broken")
    broken.__cause__ = OSError(105, "No buffer space available")
    assert context.reason_of(broken) == "socket connection broken"
    assert runner.result().own_faults["no buffer space available"] == 1
