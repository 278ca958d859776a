"""The report on standard output, as a terminal and as a pipe show it."""

import io
import re

import msgspec
from rich.console import Console

from loadgen.output import sections
from loadgen.output.render import show
from loadgen.report.figures import Column
from loadgen.report.latency import Spread
from loadgen.report.schema import Outcome, PhaseRow, Report, Table, Tone, verdict
from tests.loadgen import reports

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def shown(report: Report, *, terminal: bool = False, width: int = 160) -> str:
    file = io.StringIO()
    colours = "truecolor" if terminal else None
    show(report, Console(width=width, file=file, force_terminal=terminal, color_system=colours, highlight=False))  # type: ignore[arg-type]
    return file.getvalue()


def test_both_forms_tell_every_fact(report: Report) -> None:
    table, lines = shown(report, terminal=True, width=5000), shown(report)
    for section in sections.everything(report):
        for fact in (section.title, *(cell for row in section.rows for cell in row), *section.notes):
            if fact and fact.isascii() and fact.isprintable():
                assert fact in table
                assert fact in lines


def test_the_verdict_is_the_last_line_and_what_decided_nothing_stands_above_it(report: Report) -> None:
    report.verdict = msgspec.structs.replace(report.verdict, notes=["60 of 60 came", "not exercised: newcomers"])
    plain, table = shown(report), shown(report, terminal=True)
    for text in (plain, _COLOUR.sub("", table)):
        *_, came, newcomers, last = text.rstrip("\n").splitlines()
        assert (came, newcomers) == ("note: 60 of 60 came", "note: not exercised: newcomers")
        assert last.startswith(report.verdict.outcome.upper() + "  ")
    assert "\x1b" not in plain
    assert all(line.strip() == line and line for line in plain.splitlines()), "one fact a line"
    for width in (20, 80):
        text = _COLOUR.sub("", shown(report, terminal=True, width=width))
        assert "…" not in text, "numbers are never cut"
        assert report.verdict.outcome.upper() in text


def test_the_last_line_says_what_it_came_to_once() -> None:
    report = reports.attack()
    report.verdict = verdict(Outcome.NOT_EXERCISED, ["not exercised: slow-head: only 9 of 100 came (full: 91)"])
    assert shown(report).splitlines()[-1] == "NOT EXERCISED  slow-head: only 9 of 100 came (full: 91)"


def test_a_narrow_terminal_keeps_what_matters() -> None:
    text = _COLOUR.sub("", shown(reports.attack(), terminal=True, width=80))
    assert "p99 ms" in text
    assert "p99.9 ms" not in text


def test_what_was_not_measured_is_not_mentioned() -> None:
    text = shown(reports.run())
    assert "None" not in text
    assert "server_bytes_per_connection" not in text
    assert "CPU %" not in text


def test_bad_news_is_red() -> None:
    text = shown(reports.attack(outcome=Outcome.FELL_SHORT), terminal=True)
    assert "\x1b[1;31mFELL SHORT" in text
    assert re.search(r"\x1b\[1;31m\s*21\x1b", text), "failed round trips"
    assert "\x1b[1;31m" not in shown(reports.attack(), terminal=True)


def test_a_server_cannot_steer_the_terminal() -> None:
    for terminal in (False, True):
        text = _COLOUR.sub("", shown(reports.hostile(), terminal=terminal))
        assert not set(text) & set("\x1b\x00\u202e")


RATIO = "400 (395-1,000) \N{MIDDLE DOT} 0.75\N{MULTIPLICATION SIGN}"
NUMBERS = ("-2.5", RATIO, "1.84 → ?", "? → 2%", "12 KiB", "7 B/s", "9.1 ms")
WORDS = ("400, closing", "200 after 8.0 s", "14 of 14", "gone")


def test_a_column_is_of_numbers_whatever_is_missing() -> None:
    """What ended each probe of a server stood at the right, as each began with a status: "400, closing"."""
    for cell in (*NUMBERS, *WORDS):
        section = sections.Section("made up", (Column("of"), Column("n")), [("1", cell), ("2", "")])
        assert [section.is_numeric(column) for column in range(2)] == [False, cell in NUMBERS], cell


def test_an_attack_and_a_run_have_their_tables() -> None:
    attack = {each.title: each for each in sections.everything(reports.attack(outcome=Outcome.FELL_SHORT))}
    assert list(attack) == ["latency", "server", "attackers", "honest slow clients", "why", "figures"]
    assert [row[0] for row in attack["attackers"].rows] == ["slow-head", "idle-connect"]
    assert [row[0] for row in attack["honest slow clients"].rows] == list(reports.SLOW)
    assert attack["server"].rows == [
        ("baseline", "3.1", "39.1"), ("attack", "18.4", "41.4"), ("recovery", "3.4", "41.4")
    ]  # fmt: skip
    run = {each.title: each for each in sections.everything(reports.run())}
    assert list(run) == ["latency", "clients", "figures"]
    assert [row[0] for row in run["clients"].rows] == ["idle", "poll", "chat"]


def test_each_column_has_what_its_heading_says() -> None:
    """Each has another number: two columns that changed places were noticed by no test."""
    report = reports.attack()
    lasted = Spread(count=9, p50_ms=1000, p90_ms=2000, p99_ms=3000, p999_ms=4000, max_ms=5000)
    report.cohorts = [
        reports.cohort(
            "slow-head", 1, held=2, peak=3, opened=4, refused={"429": 5}, failed={"closed": 6}, ended={"408": 7},
            left=8, lifetime=lasted, sent_bytes=9, received_bytes=10, deliveries=11,
        )
    ]  # fmt: skip
    took = Spread(count=9, p50_ms=1, p90_ms=2, p99_ms=3, p999_ms=4, max_ms=5)
    report.phases = [
        PhaseRow(
            name="attack", what="GET", seconds=6.0, succeeded=3, failed={"closed": 1}, spread=took,
            server_cpu_percent=7.0, server_pss_bytes=8 * 2**20,
        )
    ]  # fmt: skip
    found = {
        section.title: dict(zip((column.name for column in section.columns), section.rows[0], strict=True))
        for section in sections.measured(report)
    }
    assert found == {
        "latency": {
            "of": "GET", "phase": "attack", "succeeded": "3", "failed": "1", "%": "75", "p50 ms": "1.00",
            "p90 ms": "2.00", "p99 ms": "3.00", "p99.9 ms": "4.00", "max ms": "5.00",
        },
        "server": {"phase": "attack", "CPU %": "7.0", "memory MiB, PSS": "8.0"},
        "attackers": {
            "persona": "slow-head", "wanted": "1", "held": "2", "peak": "3", "opened": "4", "refused": "5",
            "failed": "6", "killed": "7", "at age p50 s": "1.00", "p99 s": "3.00", "max s": "5.00", "left": "8",
            "sent": "9 B", "received": "10 B", "deliveries": "11",
        },
        "why": {"who": "GET, attack", "what": "failed: closed", "count": "1"},
    }  # fmt: skip


def test_a_persona_in_two_groups_is_told_apart() -> None:
    """A scenario with two groups of chats had two rows "chat"."""
    report = reports.run()
    report.cohorts = [
        reports.cohort("chat", 3, honest=True, group="staff", ended={"closed": 1}),
        reports.cohort("chat", 5, honest=True, group="guests"),
        reports.cohort("idle", 7, honest=True, group="staff"),
    ]
    clients, why = sections.measured(report)[-2:]
    assert [row[0] for row in clients.rows] == ["chat, staff", "chat, guests", "idle"]
    assert why.rows == [("chat, staff", "ended: closed", "1")]


def test_what_alarms_and_what_judges_has_a_tone() -> None:
    columns = Column("of"), Column("failed", alarming=True), Column("verdict")
    section = sections.Section("made up", columns, [])
    assert [section.tone(1, cell) for cell in ("", "0", "21")] == [None, None, Tone.BAD]
    assert [section.tone(at, "held") for at in range(3)] == [None, Tone.BAD, Tone.GOOD]


def test_a_scorecard_has_one_table_of_verdicts() -> None:
    report = reports.scorecard()
    assert shown(report).count("slow-read  verdict fell short") == 1
    names = [part.command for part in report.parts]
    report.tables = [Table(title="scorecard", columns=["attack"], rows=[[name] for name in names])]
    assert "verdicts:" not in shown(report), "it has a table of its own"
