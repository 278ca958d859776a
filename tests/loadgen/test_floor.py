"""The floor of a scorecard: every victim and neighbour can play there, and a floor that fails is a note and no more."""

import signal
import sys

import pytest
import trio
import trio.testing

from loadgen import scorecard
from loadgen.measured import Floor
from loadgen.personas import registry
from loadgen.player import Player
from loadgen.protocols import MIXES
from loadgen.report import Outcome, Report
from loadgen.scorecard import Scorecard
from tests.loadgen.planted import planted
from tests.loadgen.plays import config, plan
from tests.loadgen.readings import NOBODY

EVERY_CHATTER = dict.fromkeys(MIXES["chat"], 1)
NEIGHBOURS = {name: 1 for name, persona in registry().items() if persona.slow}


async def test_every_victim_and_every_neighbour_can_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    played = []

    class Watched(Player):
        async def play(self) -> Report:
            played.append(await super().play())
            return played[0]

    monkeypatch.setattr(scorecard, "Player", Watched)
    for name in NEIGHBOURS:
        monkeypatch.setattr(registry()[name], "cycle_seconds", 0.0)
    found = await scorecard.play_floor(
        plan(NOBODY), config({"slow-head": 3}, victims=EVERY_CHATTER, neighbours=NEIGHBOURS)
    )
    [report] = played
    assert report.target != NOBODY
    assert report.figures["success_percent"] == 100
    assert report.figures["collateral"] == 0, report.cohorts
    assert {row.what for row in report.phases if row.succeeded} == {row.what for row in report.phases}
    if not found.fault:  # a machine that is too busy is a reason, here as anywhere
        assert found == Floor(figures=report.figures)


async def test_what_it_does_not_understand_does_not_end_it() -> None:
    kinds = ("no-close", "slow-fragment", "slow-tls", "big-body", "big-frame", "compress-bomb")
    found = await scorecard.play_floor(plan(NOBODY), config(dict.fromkeys(kinds, 2)))
    assert not found.fault.startswith("the floor"), found


@pytest.mark.parametrize(
    ("code", "last_words"),
    [
        ("raise SystemExit('no ports today')", "no ports today"),
        (
            "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1]))).accept(); sys.exit('enough')",
            "enough",
        ),
    ],
    ids=["does-not-start", "dies-meanwhile"],
)
async def test_a_floor_that_ends_is_told(code: str, last_words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorecard, "_floor", lambda work, port: [sys.executable, "-c", code, str(port)])
    found = await scorecard.play_floor(plan(NOBODY), config({"slow-head": 1}))
    assert found == Floor(fault=f"the floor ended with exit code 1: {last_words}")


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
    async def stopped(*_: object) -> Floor:
        if is_signal:
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        return Floor(interrupted=True)

    monkeypatch.setattr(scorecard, "play_floor", stopped)
    kinds = [registry()[name] for name in ("slow-head", "idle-connect")]
    with planted() as server:
        report = await Scorecard(plan(server.url), config({}), kinds, 1, with_floor=True).play()
    assert report.outcome is Outcome.INTERRUPTED
    assert [(part.command, part.verdict.reasons) for part in report.parts] == rows
