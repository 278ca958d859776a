"""Which rows a scorecard plays, how it ends, and its floor: what can play there, and that one that fails is a note."""

import signal
import sys
from collections.abc import Sequence

import msgspec
import pytest
import trio
import trio.testing

from loadgen import scorecard
from loadgen.clients.client import Client
from loadgen.compare.catalogue import PEERS
from loadgen.personas import registry
from loadgen.protocols import VICTIMS
from loadgen.report.schema import Outcome, Report, verdict
from loadgen.run.experiment import Experiment
from loadgen.run.player import Player
from loadgen.run.session import Plan
from loadgen.scorecard import Scorecard
from tests.loadgen import reports
from tests.loadgen.planted import planted
from tests.loadgen.plays import config, plan
from tests.loadgen.readings import NOBODY

EVERY_VICTIM = dict.fromkeys(VICTIMS, 1)
NEIGHBOURS = {name: 1 for name, persona in registry().items() if persona.slow}


@pytest.mark.parametrize(
    ("rows", "measured", "played", "outcome"),
    [
        # nobody is served without an attack: each further row would take as long and say the same
        ([Outcome.INVALID] * 3, False, 1, Outcome.INVALID),
        ([Outcome.FELL_SHORT] * 3, False, 1, Outcome.FELL_SHORT),
        ([Outcome.NOT_EXERCISED, Outcome.INVALID, Outcome.HELD], False, 2, Outcome.INVALID),
        ([Outcome.HELD, Outcome.INVALID, Outcome.HELD], False, 3, Outcome.INVALID),
        ([Outcome.INVALID, Outcome.HELD, Outcome.FELL_SHORT], True, 3, Outcome.FELL_SHORT),
        ([Outcome.NOT_EXERCISED, Outcome.HELD, Outcome.HELD], True, 3, Outcome.HELD),
        ([Outcome.NOT_EXERCISED] * 3, True, 3, Outcome.NOT_EXERCISED),
        ([Outcome.HELD, Outcome.INTERRUPTED, Outcome.HELD], True, 2, Outcome.INTERRUPTED),
    ],
)
async def test_which_rows_are_played(
    rows: Sequence[Outcome], measured: bool, played: int, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(rows)

    async def play_one(_: Scorecard, kind: type[Client], experiment: Experiment) -> Report:
        row = reports.attack()
        row.command, row.verdict = kind.name, verdict(left.pop(0), [])
        row.phases = row.phases if measured else []
        assert experiment.attackers == {kind: 5}
        return row

    monkeypatch.setattr(Scorecard, "_play_one", play_one)
    kinds = [registry()[name] for name in ("slow-head", "idle-connect", "slow-body")]
    report = await Scorecard(plan(NOBODY), config({"slow-head": 1}), kinds, 5).play()
    assert [part.command for part in report.parts] == [kind.name for kind in kinds[:played]]
    assert report.outcome is outcome
    assert report.figures["attacks"] == played
    assert report.figures["held"] == rows[:played].count(Outcome.HELD)


def test_the_last_line_of_a_scorecard_has_the_main_reason_of_each_row_that_decided() -> None:
    """It had those of all rows: at a server without a chat, four failures between 26 attacks that need one."""
    found: list[tuple[Outcome, list[str]]] = [
        (Outcome.FELL_SHORT, ["first", "second", "third"]), (Outcome.HELD, []), (Outcome.INVALID, ["busy"]),
        (Outcome.NOT_EXERCISED, ["not exercised: slow-head: only 9 of 100 came (full: 91)"]),
    ]  # fmt: skip
    played = Scorecard(plan(NOBODY), config({}), [], 1)
    row = msgspec.structs.replace(reports.attack(), command="slow-head")
    played.parts += [msgspec.structs.replace(row, verdict=verdict(*each)) for each in found]
    told = ["slow-head invalid: busy", "slow-head not exercised: only 9 of 100 came (full: 91)"]
    fell_short = ["slow-head fell short: first (and 2 more)"]
    assert played._report().verdict == verdict(Outcome.FELL_SHORT, fell_short, told)
    del played.parts[0]
    assert played._report().verdict == verdict(Outcome.INVALID, told[:1], told[1:])
    del played.parts[1]
    assert played._report().verdict == verdict(Outcome.HELD, [], told[1:])


@pytest.mark.parametrize("last", [Outcome.HELD, Outcome.INVALID, Outcome.NOT_EXERCISED])
async def test_a_server_that_died_after_a_row_is_blamed_there(last: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a row that was held was, and only the one just before: behind one that needs TLS, the scorecard was held."""
    causes = iter(["", "process 7 is gone", "process 7 is gone"])

    async def cause_of_death(_: Plan) -> str:
        return next(causes)

    async def play(self: Player) -> Report:
        return msgspec.structs.replace(reports.attack(), verdict=verdict(last, ["300 ms late"], ["a note"]))

    monkeypatch.setattr("loadgen.scorecard.cause_of_death", cause_of_death)
    monkeypatch.setattr(Player, "reported", play)
    kinds = [registry()[name] for name in ("slow-head", "tls-key-updates", "idle-connect", "slow-body")]
    report = await Scorecard(plan(NOBODY), config({"slow-head": 1}), kinds, 5).play()
    first, *others = report.parts
    died = verdict(Outcome.FELL_SHORT, ["the server died: process 7 is gone"], ["300 ms late", "a note"])
    assert first.verdict == died
    assert report.outcome is Outcome.FELL_SHORT
    assert [part.outcome for part in others] == [Outcome.NOT_EXERCISED] * 3


# The floor


async def test_every_victim_and_every_neighbour_can_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NEIGHBOURS:
        monkeypatch.setattr(registry()[name], "cycle_seconds", 0.0)
    report = await scorecard.play_floor(
        plan(NOBODY), config({"slow-head": 3}, victims=EVERY_VICTIM, neighbours=NEIGHBOURS)
    )
    assert report.target != NOBODY
    assert report.figures["success_percent"] == 100
    assert report.figures["collateral"] == 0, report.cohorts
    assert {row.what for row in report.phases if row.succeeded} == {row.what for row in report.phases}


async def test_what_it_does_not_understand_does_not_end_it() -> None:
    kinds = ("no-close", "slow-fragment", "slow-tls", "big-body", "big-frame", "compress-bomb")
    found = await scorecard.play_floor(plan(NOBODY), config(dict.fromkeys(kinds, 2)))
    assert not any(reason.startswith("the floor") for reason in found.verdict.reasons), found


@pytest.mark.parametrize("dies", ["", "socket.create_server(('127.0.0.1', int(sys.argv[1]))).accept(); "])
async def test_a_floor_that_does_not_start_or_dies_is_told(dies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", f"import socket, sys; {dies}sys.exit('no ports today')"]
    monkeypatch.setattr(PEERS["floor"].kit, "command", lambda home, work, port, ping: [*command, str(port)])
    found = await scorecard.play_floor(plan(NOBODY), config({"slow-head": 1}))
    assert found.verdict == verdict(Outcome.INVALID, ["the floor ended with exit code 1: no ports today"])


@pytest.mark.parametrize(
    ("is_signal", "rows"),
    [
        (True, []),  # between two attacks
        (False, [("slow-head", ["stopped at the floor, before the target was attacked"])]),
    ],
)
async def test_a_stop_ends_a_scorecard_with_what_there_is(
    is_signal: bool, rows: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(*_: object) -> Report:
        if is_signal:
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        return reports.interrupted()

    monkeypatch.setattr(scorecard, "play_floor", stopped)
    kinds = [registry()[name] for name in ("slow-head", "idle-connect")]
    with planted() as server:
        report = await Scorecard(plan(server.url), config({}), kinds, 1, with_floor=True).play()
    assert report.outcome is Outcome.INTERRUPTED
    assert [(part.command, part.verdict.reasons) for part in report.parts] == rows
