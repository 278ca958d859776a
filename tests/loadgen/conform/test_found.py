"""A server that breaks one rule fails the case of that rule; one that breaks none fails no case."""

import os
import signal
from itertools import count
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock

from loadgen.cases.case import Case
from loadgen.conform.suite import play, select
from loadgen.conform.summary import Options
from loadgen.net.line import dial
from loadgen.report.schema import Outcome, Report
from loadgen.run.progress import Progress
from tests.loadgen.conform.marks import marks, only, reasons
from tests.loadgen.conform.planted import Plant, Server, planted
from tests.loadgen.stage import until

#: Seconds without work before the clock jumps: as long as the kernel may need to deliver what was sent.
_IDLE = 0.05


@pytest.fixture
def clock() -> MockClock:
    """Waiting for what never comes takes no time."""
    return MockClock(autojump_threshold=_IDLE)


async def conform(server: Server, cases: tuple[Case, ...], **changes: object) -> Report:
    options = Options(target=server.target, path="/", **changes)  # type: ignore[arg-type]
    return await play(options, cases, Progress())


async def test_a_server_that_keeps_to_the_rules_is_ok_in_every_case(clock: MockClock) -> None:
    cases = tuple(case for case in select(()) if case.family != "9")
    async with planted() as server:
        report = await conform(server, cases)
    assert report.outcome is Outcome.HELD
    assert set(marks(report)) == {case.id for case in cases}
    # the planted server checks text only when it is complete
    assert only(report, "non-strict") == {f"6.4.{number}" for number in range(1, 5)}
    assert only(report, "ok") == set(marks(report)) - only(report, "non-strict")
    assert server.most_at_once <= 8 + 1, "the connection before the last may still be closing"


def _overlooks(*names: str) -> Plant:
    return Plant(overlooks=names)


@pytest.mark.parametrize(
    ("plant", "cases", "wrong", "why"),
    [
        (_overlooks("unmasked"), "1.*", "1.3.1 1.3.2", "sends text b'Hello, world!'"),
        (_overlooks("reserved"), "3.*", "3.1 3.2 3.3 3.4 3.5 3.6 3.8", "sends text b'Hello, world!'"),
        (_overlooks("opcode"), "4.1.1,4.1.2", "4.1.1 4.1.2", "Invalid opcode 0x4"),
        (_overlooks("opcode"), "4.2.1", "4.2.1", "goes on as if nothing were wrong"),
        (_overlooks("fragmented-control"), "5.1,5.2,5.3", "5.1", "sends pong b'fragment1'"),
        (_overlooks("long-control"), "2.*", "2.5", "sends what it may not"),
        (_overlooks("highest"), "1.4.3", "", ""),  # 1009: as good
        (_overlooks("nothing-to-continue"), "5.9,5.3", "5.9", "sends text"),
        (_overlooks("interleaved"), "5.18,5.22,5.3", "5.18 5.22", "sends text"),
        (_overlooks("utf8"), "6.3.1,6.20.*,6.2.1", "6.3.1 6.20.1 6.20.2 6.20.3 6.20.4 6.20.5 6.20.6 6.20.7", "UTF-8"),
        (_overlooks("close-size", "close-code"), "7.3.*", "7.3.2", "a code that may not be sent"),
        (_overlooks("close-code"), "7.9.1,7.9.4,7.3.3", "7.9.1 7.9.4", "a code that may not be sent"),
        (_overlooks("close-utf8"), "7.5.1", "", "sends close 1000, not 1007"),
        (Plant(ignores_mask=True), "1.2.2", "1.2.2", "sends binary of 125 bytes"),
        (Plant(no_pong=True), "2.2,2.7,1.1.2", "2.2 2.7 1.1.2", "never sends pong"),
        (Plant(no_close=True), "7.1.1,7.3.3", "7.1.1 7.3.3", "does not answer the close"),
        (Plant(stays=True), "7.3.3", "7.3.3", "leaves the connection open"),
        (Plant(cuts_at=65_535), "1.1.6,1.1.7", "1.1.7", "sends text of 65,535 bytes"),
        (Plant(drops_every=500), "9.7.1", "9.7.1", "never sends text b''"),
        (Plant(fields=("Sec-WebSocket-Extensions: permessage-deflate",)), "12.*", "12.1 12.2", "agrees to"),
        (Plant(takes_any=("upgrade", "connection")), "0.7,0.8,0.9,0.10", "0.7 0.8 0.9", "accepts it"),
        (Plant(takes_any=("method", "http", "host")), "0.10,0.11,0.17,0.15", "0.10 0.11 0.17", "accepts it"),
        (Plant(takes_any=("version",)), "0.15,0.16", "0.15 0.16", "accepts it"),
        # what the RFC leaves to a server is not wrong
        (Plant(takes_any=("key",)), "0.13", "", "accepts it"),
        (Plant(fails_silently=True), "1.3.1", "", "no close frame, but FIN"),
        (Plant(fails_with=1000), "1.3.1", "", "sends close 1000, not 1002"),
        (Plant(stays=True), "1.3.1", "", "leaves the connection open"),
        (_overlooks("minimal"), "1.4.1", "", "sends text b'hello'"),
        # long and many messages, and pings of the server's own
        (Plant(), "9.1.3,9.3.5,9.5.6,9.8.3", "", ""),
        (Plant(asks_first=True), "1.1.8,5.5,7.1.1,1.3.1", "", ""),
        (Plant(waits=True), "1.3.1,3.1,4.2.1", "", ""),
        (Plant(bytes_per_s=90_000), "9.1.3", "", ""),  # 12 s, for which a megabyte has four more than the timeout
    ],
)  # fmt: skip
async def test_a_broken_rule_is_found(plant: Plant, cases: str, wrong: str, why: str, clock: MockClock) -> None:
    async with planted(plant) as server:
        report = await conform(server, select([cases]))
    assert only(report, "wrong") == set(wrong.split()), reasons(report)
    assert report.outcome is (Outcome.FELL_SHORT if wrong else Outcome.HELD)
    assert why in " ".join(reasons(report).values())
    assert wrong or why or set(marks(report).values()) == {"ok"}, reasons(report)
    for case in wrong.split()[:5]:
        assert any(told.startswith(f"{case} ") for told in report.verdict.reasons)


async def test_a_limit_of_the_server_s_own_is_not_called_ok(clock: MockClock) -> None:
    async with planted(Plant(most_bytes=1000)) as server:
        report = await conform(server, select(["1.1.5,1.1.6,7.1.6"]))
        alone = await conform(server, select(["1.1.6"]))
    assert marks(report) == {"1.1.5": "ok", "1.1.6": "not exercised", "7.1.6": "not exercised"}
    assert report.outcome is Outcome.HELD
    assert alone.outcome is Outcome.NOT_EXERCISED
    assert alone.outcome.exit_code == 3


@pytest.mark.parametrize(("waited", "mark"), [(1_000.0, "not exercised"), (0.0, "wrong")])
async def test_a_long_case_without_processors_proves_nothing(
    waited: float, mark: str, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where thirty programs shared two processors, a sound server was said never to send 4 MiB in small fragments."""
    readings = count(5_000.0, waited)  # since the machine started
    monkeypatch.setattr("loadgen.run.procfs.pressure", lambda: next(readings))
    async with planted(Plant(busy_until=99)) as server:
        report = await conform(server, select(["1.1.7,9.1.3"]))
    assert marks(report) == {"1.1.7": "wrong", "9.1.3": mark}, "a short one needs no processor to speak of"


async def test_a_case_that_is_not_answered_in_time_is_played_again_alone(
    clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a thousand messages beside seven other cases, hypercorn on a busy machine was said to break the RFC.

    With a server that is no echo of some messages (websocketd) that takes minutes, in which nothing was said.
    """
    async with planted(Plant(busy_until=4)) as server:
        report = await conform(server, select(["1.1.1,1.1.2,1.2.1"]))
    assert set(marks(report).values()) == {"ok"}, reasons(report)
    assert report.outcome is Outcome.HELD
    assert server.connections == 1 + 3 + 3
    assert "again, one by one: 3 cases without an answer in time, up to " in capsys.readouterr().err


async def test_a_server_that_goes_on_and_answers_is_not_asked_again(clock: MockClock) -> None:
    """Sanic overlooks text that is not UTF-8: 73 cases were played once more, one by one, for four minutes."""
    async with planted(_overlooks("opcode")) as server:
        report = await conform(server, select(["4.2.1"]))
    assert reasons(report) == {"4.2.1": "goes on as if nothing were wrong"}
    assert server.connections == 1 + 1


async def test_ctrl_c_ends_it_with_what_there_is(clock: MockClock) -> None:
    async def press(server: Server) -> None:
        await until(lambda: server.connections == 3)  # the first is asked for an echo
        await trio.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    async with planted(Plant(no_close=True)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(press, server)
        report = await conform(server, select(["1.1.1,7.3.3"]))
    assert report.outcome is Outcome.INTERRUPTED
    assert marks(report) == {"1.1.1": "ok"}


async def test_a_server_that_is_there_and_cannot_be_reached_is_wrong(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only after its death is that no violation: a server could lock us out after the first case, and hold."""
    async with planted() as server:
        dialled = [dial(server.target), ConnectionRefusedError]  # the first is asked for an echo
        monkeypatch.setattr("loadgen.conform.conversation.dial", Mock(side_effect=dialled))
        report = await conform(server, select(["1.1.1"]))
    assert report.outcome is Outcome.FELL_SHORT
    assert marks(report) == {"1.1.1": "wrong"}


async def test_a_server_that_dies_falls_short(clock: MockClock) -> None:
    async with planted(Plant(dies=True)) as server:
        report = await conform(server, select(["1.1.1"]))
    assert report.outcome is Outcome.FELL_SHORT
    [reason] = report.verdict.reasons
    assert reason.startswith("the server died: nothing listens at 127.0.0.1 port ")
    assert marks(report) == {"1.1.1": "not exercised"}, "it has not violated the RFC"
    assert "cannot be reached: connection refused" in reasons(report)["1.1.1"]
