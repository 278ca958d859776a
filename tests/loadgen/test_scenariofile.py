"""Scenario files: what they may say, what they are told when they say something else, and that the examples play."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from loadgen import scenariofile
from loadgen.net.target import UsageError
from loadgen.personas import registry
from loadgen.report import conditions
from loadgen.report.schema import Outcome, Report
from loadgen.run.experiment import MEASURED, Counts, Experiment
from loadgen.run.player import Player
from loadgen.run.session import Plan
from loadgen.scorecard import ATTACKING
from tests.loadgen.planted import planted
from tests.loadgen.plays import COUNTS, PATIENCE, beside_other_tests, by_counts, plan
from tests.support.errors import error_of

EXAMPLES = Path(__file__).parents[2] / "docs" / "scenarios"

CROWD = '[[groups]]\nname = "crowd"\nclients = 10\nmix = "idle=80,chat=20"\n'
OPEN, HALF, CLOSE = "open = { crowd = 1.0 }", "open = { crowd = 0.5 }", 'close = ["crowd"]'


def _phase(name: str, *keys: str, seconds: object = 5) -> str:
    return "\n".join(["[[phases]]", f'name = "{name}"', f"seconds = {seconds}", *keys, ""])


STEADY = _phase("steady")


def _read(tmp_path: Path, text: str) -> Experiment:
    (tmp_path / "it.toml").write_text(text)
    return scenariofile.read(str(tmp_path / "it.toml")).experiment


WRONG: list[tuple[str, str]] = [
    ("phases = 3", r"it\.toml: Expected `array`, got `int` at `phases`"),
    ("", r"it\.toml: there must be a key `phases`"),
    ("nme = 1\n" + STEADY, r"it\.toml: there is no key `nme`"),
    ("phases = [", "it.toml: "),
    ("phases = " + "[" * 3000 + "]" * 3000, r"it\.toml: maximum recursion depth exceeded"),  # it was a traceback
    (STEADY + "secnods = 3\n", r"there is no key `secnods` at `phases\[0\]`"),
    (CROWD + STEADY + _phase("more", "rat = 3"), r"there is no key `rat` at `phases\[1\]`"),
    (STEADY.replace("5", '"long"'), r": Expected `float`, got `str` at `phases\[0\].seconds`"),
    ("[[phases]]\nseconds = 5\n" + STEADY, r"there must be a key `name` at `phases\[0\]`"),
    (STEADY + STEADY, "phases: 'steady' is there twice"),
    (CROWD + CROWD + STEADY, "groups: 'crowd' is there twice"),
    (CROWD + STEADY + "open = { crowed = 1.0 }\n", "phases.steady: there is no group 'crowed'; there are crowd"),
    (STEADY + "open = { crowd = 1.0 }\n", "phases.steady: there is no group 'crowd'; there are none"),
    (CROWD + STEADY + "open = { crowd = 1.5 }\n", "phases.steady.open.crowd: 1.5 is above 1"),
    (CROWD + "per_address = 0\n" + STEADY, "groups.crowd.per_address: 0 is below 1"),
    (CROWD.replace("idle=80", "idol=80") + STEADY, "did you mean idle"),
    (CROWD + 'kind = "slow-head"\n' + STEADY, "groups.crowd: it has either mix"),
    (CROWD.replace('mix = "idle=80,chat=20"', 'kind = "slow-head"') + STEADY, "attackers alone show nothing"),
    (CROWD.replace("chat", "poll") + STEADY + "rate = 5\n", "rate: nobody speaks"),
    ("[victims]\n" + STEADY, "victims need a phase that counts as 'baseline'"),
    ('[victims]\nkind = "poled"\n' + STEADY, "did you mean poll"),
    (CROWD + '[[phases]]\nname = "come"\nopen = { crowd = 1.0 }\n', "phases: none is judged"),
    ("[victims]\nnewcomers = -1\n" + STEADY, "victims.newcomers: -1 is below 0"),
    ("[victims]\nneighbours = -1\n" + STEADY, "victims.neighbours: -1 is below 0"),
    ("[victims]\nnumber = 0\n" + STEADY, "victims.number: 0 is below 1"),
    ("[victims]\nnumber = 100001\n" + STEADY, "victims.number: 100,001 is above 100,000"),
    ("[victims]\ntimeout = 0\n" + STEADY, "victims.timeout: 0 is below 0.1"),
    (CROWD + STEADY, "groups.crowd: no phase opens it"),
    (CROWD + STEADY + "open = { crowd = 0.0 }\n", "groups.crowd: no phase opens it"),
    (  # "not exercised: only 2 of 5 came", of which no more were to come
        "[victims]\n"
        + CROWD.replace('mix = "idle=80,chat=20"', 'kind = "slow-head"')
        + _phase("baseline")
        + _phase("steady", HALF)
        + _phase("recovery"),
        "groups.crowd: its phases open 0.5 of it, and an attack takes place when all have come",
    ),
    (CROWD + _phase("all", OPEN) + _phase("less", HALF), "phases.less.open.crowd: 0.5 is less than the 1 that are"),
    (
        CROWD + _phase("half", HALF, CLOSE) + _phase("again", OPEN),
        "phases.again.open.crowd: the group has left",
    ),
    (CROWD + _phase("steady", "rate = 5") + _phase("late", OPEN), "phases.steady.rate: nobody speaks"),
    ("[victims]\n" + _phase("baseline") + STEADY, "a phase that counts as 'recovery'"),
    (CROWD + _phase("steady", OPEN, CLOSE) + _phase("late", "rate = 5"), "phases.late.rate: nobody speaks"),
    (CROWD.replace('"crowd"', '"neighbours"') + STEADY, "groups.neighbours: that name is the honest slow clients'"),
    (CROWD.replace("10", "0") + STEADY, "groups.crowd.clients: 0 is below 1"),
    (CROWD + "poll_wait = 0\n" + STEADY, "groups.crowd.poll_wait: 0 is not above 0"),
    (CROWD + "rooms = 0\n" + STEADY, "groups.crowd.rooms: 0 is below 1"),
    (CROWD + 'room = "A"\n' + STEADY, "groups.crowd: room: 'A' is no room's name"),
    (STEADY + "text_bytes = 9\n", "phases.steady.text_bytes: a size is set together with a rate"),
    (STEADY + "text_bytes = -1\n", "phases.steady.text_bytes: -1 is below 0"),
    (STEADY + "text_bytes = 1048577\n", "phases.steady.text_bytes: 1,048,577 is above 1,048,576"),
    (_phase(""), r"Expected `str` of length >= 1 at `phases\[0\].name`"),
    ("name = ''\n" + STEADY, r"Expected `str` of length >= 1 at `name`"),
    (CROWD.replace('"crowd"', "''") + STEADY, r"Expected `str` of length >= 1 at `groups\[0\].name`"),
    (CROWD + "room = ''\n" + STEADY, r"Expected `str` of length >= 1 at `groups\[0\].room`"),
    (STEADY + "rate = inf\n", "phases.steady.rate: it must be finite"),
    (STEADY + "rate = 1e308\n", r"phases.steady.rate: 1e\+308 is above 1,000,000"),
    (STEADY, r"groups: there are none, and no \[victims\]"),  # a KeyError after the last phase
    ("drain = -1\n" + STEADY, "drain: -1 is below 0"),
    ("drain = " + "1" * 5000, "5000 digits"),
    ("[[groups]]\nname = 'a'\nclients = 5\nkind = ','\n" + STEADY, "groups.a: --kind: name at least one attack"),
    (_phase("drain"), "phases.drain: loadgen has a time of that name"),
    ("connect_rate = -1\n" + STEADY, "connect_rate: -1 is below 0"),
    (_phase("steady", 'counts_as = "opening"', seconds="nan"), "phases.steady.seconds: nan is below 0"),
    (_phase("steady", 'counts_as = "load"', seconds=0), "phases.steady.seconds: 0 is not above 0"),
    (_phase("steady", seconds=5000), "phases.steady.seconds: 5,000.0 is above 3,600"),
    # the flag was blamed, which nobody had said
    ("fail_if = ['ack>1']\n" + CROWD + _phase("steady", OPEN), r"it\.toml: --fail-if: there is no figure 'ack'"),
]


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    for text, error in WRONG:
        told = str(error_of(UsageError, _read, tmp_path, text))
        assert told.startswith("--scenario: "), text
        assert re.search(error, told), (text, told)
        assert "\n" not in told, text


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--scenario: .*none\.toml: No such file"):
        scenariofile.read(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"name = 'caf\xe9'")
    with pytest.raises(UsageError, match=r"--scenario: .*latin\.toml: .*can't decode byte 0xe9"):
        scenariofile.read(str(tmp_path / "latin.toml"))


def test_a_file_of_an_editor_that_marks_its_encoding_is_read(tmp_path: Path) -> None:
    assert _read(tmp_path, "\ufeff[victims]\n" + _phase("baseline") + STEADY + _phase("recovery")).probes


def test_phases_count_by_their_names_unless_they_say_otherwise(tmp_path: Path) -> None:
    quiet = _phase("quiet", 'counts_as = "recovery"')
    found = _read(tmp_path, "[victims]\nneighbours = 2\n" + _phase("baseline") + STEADY + quiet)
    kinds = [(phase.name, phase.counts_as) for phase in found.phases]
    assert kinds == [
        ("warm-up", Counts.OPENING),
        ("baseline", Counts.BASELINE),
        ("steady", Counts.LOAD),
        ("quiet", Counts.RECOVERY),
    ]
    assert set(found.neighbours) == {persona for persona in registry().values() if persona.slow}
    assert found.longest_cycle == 0
    alone = "[victims]\nkind = ['ws-echo', 'GET /a']\nfixed_duration = false\n" + _phase("baseline")
    found = _read(tmp_path, alone + STEADY + _phase("recovery"))
    assert [phase.name for phase in found.phases] == ["baseline", "steady", "recovery"]
    assert found.longest_cycle == math.inf
    assert found.victims == {"ws-echo": 25, "get": 25}


@pytest.mark.parametrize(
    ("asked", "rooms", "per_address"),
    [
        ("", ("lobby",), 200),
        ('room = "ops"\n', ("ops",), 200),
        ('room = "ops"\nrooms = 2\n', ("ops-1", "ops-2"), 200),
        ("per_address = 1\n", ("lobby",), 1),
    ],
)
def test_attackers_are_in_the_rooms_and_behind_the_addresses_that_are_asked_for(
    tmp_path: Path, asked: str, rooms: tuple[str, ...], per_address: int
) -> None:
    """They were in the lobby, whatever the file said."""
    attackers = CROWD.replace('mix = "idle=80,chat=20"', 'kind = "catch-up"') + asked
    phases = _phase("baseline") + _phase("steady", OPEN) + _phase("recovery")
    [group] = _read(tmp_path, "[victims]\n" + attackers + phases).groups
    assert (group.rooms, group.per_address) == (rooms, per_address)


def test_what_is_left_out_is_as_the_flags_have_it(tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text(
        "[victims]\n" + _phase("baseline") + _phase("recovery")
        + CROWD.replace('mix = "idle=80,chat=20"', 'kind = "slow-head"')
        + _phase("steady", OPEN) + _phase("busy", "rate = 0", "text_bytes = 9")
    )  # fmt: skip
    told = scenariofile.read(str(tmp_path / "it.toml"))
    [crowd] = told.experiment.groups
    assert (told.connect_rate, told.no_bar, told.fail_if) == (0, False, ())
    assert told.experiment.probes == ATTACKING.experiment(1).probes
    assert crowd.rooms == ("lobby",), "where the victims are"
    assert told.experiment.phases[-1].text_bytes == 9


async def _play(name: str, url: str, judged: Callable[[Plan], Plan] = lambda plan: plan) -> Report:
    """An example, in a twentieth of its time, but no phase shorter than a crowd needs to come."""
    told = scenariofile.read(str(EXAMPLES / name))
    probes = told.experiment.probes and replace(told.experiment.probes, timeout_seconds=PATIENCE)
    phases = tuple(
        msgspec.structs.replace(each, seconds=max(each.seconds / 20, 0.6)) if each.counts_as in MEASURED else each
        for each in told.experiment.phases
    )
    with beside_other_tests():
        return await Player(judged(plan(url)), replace(told.experiment, phases=phases, probes=probes)).play()


def test_what_the_examples_judge_by_is_measured() -> None:
    for example in EXAMPLES.glob("*.toml"):
        told = scenariofile.read(str(example))
        conditions.parse(told.fail_if, told.experiment.known, server_pid=False)


async def test_the_working_day_is_played() -> None:
    with planted() as server:
        report = await _play("working-day.toml", server.url, by_counts)
    assert report.command == "working day"
    assert report.figures["held"] == 200, "they came in the ramp, but for the first 40"
    [idle] = [row for row in report.cohorts if row.persona == "idle"]
    assert idle.peak == 160, "and everybody by the end of it"
    assert [row.name for row in report.phases] == ["morning to afternoon"] * 2
    assert report.phases[0].seconds >= 2.79, "from the first of the four to the end of the last"
    assert report.phases[0].succeeded >= 60, "the spike at noon alone is 60 messages"
    for name in COUNTS:
        assert report.figures[name] == 0, name
    assert report.figures["missed"] is None, "those who came later were not there to be given all"
    assert report.outcome is Outcome.HELD, report.verdict


async def test_two_waves_are_played() -> None:
    with planted() as server:
        report = await _play("two-waves.toml", server.url)
    names = list(dict.fromkeys(row.name for row in report.phases))
    assert names == ["baseline", "first wave", "between", "second wave", "recovery"]
    assert report.figures["success_percent"] == 100
    assert report.figures["attackers_asked"] == 400
    waves = {row.persona: row for row in report.cohorts}
    assert waves["slow-head"].sent_bytes > 0
    assert waves["idle-connect"].peak > 0
    held = [sum(sample.held.values()) for sample in report.timeline if sample.phase == "recovery"]
    assert not any(held), "both waves are gone"
