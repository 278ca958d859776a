"""The line on a terminal, and the plain lines elsewhere. Time is what the samples say, so nothing here waits."""

import io

import msgspec
import pytest
from rich.console import Console

from loadgen.report.schema import Report, Sample
from loadgen.run.progress import Course, Progress
from tests.loadgen import reports

PLAN = [("baseline", 5.0), ("attack", 20.0), ("recovery", 5.0)]
ATTACKERS = {"slow-head", "idle-connect"}


def sample(seconds: float, **changes: object) -> Sample:
    usual = Sample(seconds=seconds, phase="attack", held={"slow-head": 10}, ended={}, refused={})
    return msgspec.structs.replace(usual, **changes)


def played(console: Console, report: Report) -> Progress:
    progress = Progress(console)
    progress.banner(["attack http://127.0.0.1:8000", "loopback; Ctrl-C ends it"])
    progress.plan(PLAN, attackers=ATTACKERS)
    phase = ""
    for each in report.timeline:
        if each.phase != phase:
            phase = each.phase
            progress.phase(phase)
        progress.tick(each)
    return progress


# -- plain ------------------------------------------------------------------------------------------------------------


def test_a_pipe_gets_a_line_at_each_phase_and_now_and_then() -> None:
    file = io.StringIO()
    played(Console(file=file, width=80), reports.attack()).done()
    lines = file.getvalue().splitlines()
    assert "\x1b" not in file.getvalue()
    assert lines[:4] == ["attack http://127.0.0.1:8000", "loopback; Ctrl-C ends it", "baseline: 5 s", "attack: 20 s"]
    assert "recovery: 5 s" in lines
    assert 8 <= len(lines) <= 12
    assert any("slow-head 4,0" in each or "slow-head 3,9" in each for each in lines)


def test_before_the_first_sample_a_line_has_the_phase_alone() -> None:
    course = Course(PLAN)
    assert course.line() == ""
    course.enter("baseline")
    assert course.line() == "baseline"


def test_dumb_terminals_are_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    played(Console(file=file, force_terminal=True, width=80), reports.attack()).done()
    assert "\x1b[?25l" not in file.getvalue(), "it hid the cursor"
    assert "attack: 20 s" in file.getvalue()


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (
            {"held": {"slow-head": 5, "curl": 2}, "ended": {"curl": 1}, "p99_ms": 12.3},
            "attack, slow-head 5 held, curl 2 held 1 ended, p99 12.3 ms, 3 FAILED, 24 s left",
        ),
        (  # honest clients to whom nothing happened are only counted
            {"held": {"slow-head": 4000, "curl": 10}, "ended": {"slow-head": 1203}},
            "attack, slow-head 4,000 held 1,203 ended, 10 honest held, 3 FAILED, 24 s left",
        ),
    ],
)
def test_the_line_names_what_is_wrong(counts: dict[str, object], line: str) -> None:
    course = Course(PLAN, attackers=ATTACKERS)
    course.enter("attack")
    course.failed = 3
    course.latest = sample(1.0, **counts)
    assert course.line() == line


# -- live -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["attack", "fell short", "run", "hostile", "interrupted"])
def test_no_terminal_is_too_small_and_a_line_that_is_said_stays_above_the_view(kind: str) -> None:
    for width, height in ((1, 1), (1, 40), (3, 5), (20, 1), (40, 5), (80, 40), (300, 1)):
        file = io.StringIO()
        progress = played(Console(file=file, force_terminal=True, width=width, height=height), reports.KINDS[kind]())
        progress.say("stopping [red]now[/red]\x1b[2J")
        if (width, height) == (80, 40):
            assert "stopping [red]now[/red]\N{REPLACEMENT CHARACTER}[2J" in file.getvalue()
        progress.done()
        progress.done()
        shown, hidden = (file.getvalue().count(f"\x1b[?25{letter}") for letter in "hl")
        assert shown == hidden, f"the cursor is not back at {width} columns and {height} lines"


# -- how far ----------------------------------------------------------------------------------------------------------


def test_phases_wait_at_their_end_and_jump_at_the_next() -> None:
    course = Course(PLAN)
    assert course.left == 30
    for phase, seconds, left in (("baseline", 2.0, 28), ("", 9.0, 25), ("attack", 9.0, 25), ("", 19.0, 15)):
        if phase:
            course.enter(phase)
        course.latest = sample(seconds)
        assert course.left == left
    course.enter("drain")  # not planned: what was planned before it is over
    assert course.left == 5


def test_phases_of_the_same_name_come_one_after_the_other() -> None:
    course, left = Course([*PLAN, *PLAN]), []
    for name, _ in [*PLAN, *PLAN]:
        course.enter(name)
        left.append(course.left)
    assert left == [60, 55, 35, 30, 25, 5]
