"""Victims of every kind against a sound server and a faulty one."""

from collections import Counter
from contextlib import nullcontext

import pytest
import trio

from loadgen.messages import Role
from loadgen.protocols import ESTABLISHED, MIXES, WHAT, http
from loadgen.protocols.chat_v1 import PollVictim, StreamVictim, WebSocketVictim
from loadgen.protocols.http import GetVictim
from loadgen.protocols.ws_echo import EchoVictim
from loadgen.report import Report
from loadgen.target import find
from loadgen.timers import now
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.runner import ProbeRunner
from loadgen.victims.victim import Newcomers, OperationFailedError, Victim
from tests.loadgen.planted import Plant
from tests.loadgen.plays import attacked
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


async def test_a_page_of_a_server_that_closes_after_each_answer_is_fetched_again_and_again() -> None:
    report = await attacked(Plant(close_after_poll=True), {"idle-connect": 1}, victims={"get": 2})
    assert _by_kind(report, "attack")[WHAT["get"]] >= 5
    assert report.figures["success_percent"] == 100


@pytest.mark.parametrize(
    ("kind", "texts", "booked", "failure"),
    [
        (EchoVictim, ["run-3 0", "others 1", "run-3 one", "run-3 2"], [0, 2], ""),
        (EchoVictim, ["run-3 0", "run-3 0"], [0], "a message came twice"),
        (EchoVictim, ["run-3 0", "run-30 1"], [0], "a message of another room"),
        (EchoVictim, ["run-3 1", "run-3 0"], [0, 1], ""),  # some servers answer concurrently
        (StreamVictim, ["run-3 1", "run-3 0"], [], "a message came out of order"),
    ],
)
def test_a_victim_takes_its_own_messages_once_and_in_order(
    kind: type[Victim], texts: list[str], booked: list[int], failure: str
) -> None:
    victim = kind(Context(find("http://127.0.0.1:1"), "run"), 3, Schedule(0.0, 1.0))
    victim.pending = {0: 0.0, 1: 1.0, 2: 2.0}
    with pytest.raises(OperationFailedError, match=failure) if failure else nullcontext():
        for text in texts:
            victim.heard(text)
    assert sorted({0, 1, 2} - victim.pending.keys()) == booked


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


async def test_a_limit_of_this_machine_is_no_failure_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors or ports no victim could connect, and the server fell short for it."""

    def none_left(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("loadgen.victims.probe.dial", none_left)
    runner = ProbeRunner(Role(target=find("http://127.0.0.1:1"), seed=1, connect_rate=0.0))
    context, later = runner._context, Schedule(now() + 3600, 1.0)
    await Newcomers(context, http.PROTOCOL.newcomer, later, 0)._come(0, now() + PATIENCE)
    assert runner.result().own_faults == {"too many open files": 1}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(GetVictim(context, 0, later).run)
        await until(lambda: runner.result().own_faults == {"too many open files": 2})
        nursery.cancel_scope.cancel()
