"""Which rows a scorecard plays, and how it ends, with rows that the test decides."""

from collections.abc import Sequence

import msgspec
import pytest

from loadgen.client import Client
from loadgen.experiment import Experiment
from loadgen.measured import Floor
from loadgen.personas import registry
from loadgen.report import Outcome, Report, verdict
from loadgen.scorecard import Scorecard
from loadgen.session import Plan
from tests.loadgen import reports
from tests.loadgen.plays import config, plan
from tests.loadgen.readings import NOBODY


@pytest.mark.parametrize(
    ("rows", "measured", "played", "outcome"),
    [
        # nobody is served without an attack: each further row would take as long and say the same
        ([Outcome.INVALID] * 3, False, 1, Outcome.INVALID),
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


def test_the_last_line_of_a_scorecard_has_the_main_reason_of_each_row() -> None:
    """It had all of them: 6 KB on a busy machine."""
    found: list[tuple[Outcome, list[str]]] = [
        (Outcome.FELL_SHORT, ["first", "second", "third"]), (Outcome.HELD, []), (Outcome.INVALID, ["busy"]),
        (Outcome.NOT_EXERCISED, ["not exercised: slow-head: only 9 of 100 came (full: 91)"]),
    ]  # fmt: skip
    played = Scorecard(plan(NOBODY), config({}), [], 1)
    row = msgspec.structs.replace(reports.attack(), command="slow-head")
    played.parts += [msgspec.structs.replace(row, verdict=verdict(*each)) for each in found]
    assert played._report().verdict.reasons == [
        "slow-head fell short: first (and 2 more)",
        "slow-head invalid: busy",
        "slow-head not exercised: only 9 of 100 came (full: 91)",
    ]


@pytest.mark.parametrize("last", [Outcome.HELD, Outcome.INVALID])
async def test_a_server_that_died_after_a_row_was_held_is_blamed_there(
    last: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes = iter(["", "process 7 is gone"])

    async def cause_of_death(_: Plan) -> str:
        return next(causes)

    async def play(self: Scorecard, experiment: Experiment, found: Floor | None) -> Report:
        return msgspec.structs.replace(reports.attack(), verdict=verdict(last, ["300 ms late"]))

    monkeypatch.setattr("loadgen.scorecard.cause_of_death", cause_of_death)
    monkeypatch.setattr(Scorecard, "_play_at_the_target", play)
    kinds = [registry()[name] for name in ("slow-head", "idle-connect")]
    first, second = (await Scorecard(plan(NOBODY), config({"slow-head": 1}), kinds, 5).play()).parts
    died = (Outcome.FELL_SHORT, ["the server died: process 7 is gone"])
    assert (first.outcome, first.verdict.reasons) == (died if last is Outcome.HELD else (last, ["300 ms late"]))
    assert second.outcome is Outcome.NOT_EXERCISED
