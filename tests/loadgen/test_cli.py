"""Flags, exit codes and output, as a script would see them."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from loadgen import common, flags
from loadgen.cli import app
from loadgen.net.target import UsageError
from loadgen.personas import registry
from loadgen.report.schema import SCHEMA, Outcome, Report
from loadgen.run.player import Player
from loadgen.run.preflight import InvalidRunError
from loadgen.run.session import Plan
from tests.loadgen.commandline import call, exit_code
from tests.loadgen.planted import planted, planted_process
from tests.loadgen.plays import SETTLE_SECONDS
from tests.support.ports import steady_port

ROOT = Path(__file__).parents[2]

#: `python -m loadgen`, but for the seconds that a server is given to finish what it put off.
AT_ONCE = (
    "from functools import partial; from loadgen import __main__, common;"
    f" common.Plan = partial(common.Plan, settle_seconds={SETTLE_SECONDS}); __main__.main()"
)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["run"], "URL is missing. See loadgen run --help"),
        (["run", "http://127.0.0.1:1", "--clints", "3"], "--clints"),
        (["run", "http://127.0.0.1:1", "--clients", "many"], "--clients"),
        (["run", "http://127.0.0.1:1", "--clients", "0"], "--clients"),
        (["run", "http://127.0.0.1:1", "--duration", "nan"], "--duration"),
        (["run", "http://127.0.0.1:1", "--rate", "5", "--mix", "idle=1"], "--rate: nobody speaks"),
        (["run", "http://127.0.0.1:1", "--rooms", "0"], "--rooms"),
        (["run", "http://127.0.0.1:1", "--connect-rate", "-1"], "--connect-rate"),
        (["run", "http://127.0.0.1:1", "--server-pid", "999999999"], "--server-pid"),
        (["run", "http://127.0.0.1:1", "--fail-if", "speed>1"], "known are ack_max_ms"),
        (["run", "http://127.0.0.1:1", "--processes", "0"], "--processes"),
        (["run", "http://127.0.0.1:1", "--clients", "900000000"], "--clients: 900,000,000 is above 100,000"),
        (["run", "http://127.0.0.1:1", "--rate", "1e7"], "--rate: 10,000,000.0 is above 1,000,000"),
        (["compare", "http://127.0.0.1:1", "--rate", "1e7"], "--rate: 10,000,000.0 is above 1,000,000"),
        (["run", "http://127.0.0.1:1", "--report", "/dev/null/no"], "--report"),
        (["attack", "http://127.0.0.1:1", "--kind", "slow-head", "--victim", "poled"], "did you mean poll"),
        (["attack", "http://127.0.0.1:1", "--kind", "slow-head", "--victim", "GET /a b"], "--victim: '/a b' is no"),
        (["attack", "http://127.0.0.1:1", "--kind", "slow-head", "--neighbours", "-1"], "--neighbours"),
        (["attack", "http://127.0.0.1:1", "--kind", "slow-head", "--ws-path", "ws"], "--ws-path"),
        (["scorecard", "https://127.0.0.1:1", "--floor"], "--floor: it runs on this machine and speaks no TLS"),
        (["scorecard", "http://127.0.0.1:1", "--start", "chatsever serve"], "--start: there is no program 'chatsever'"),
        (["scorecard", "http://127.0.0.1:1", "--start", "chat 'serve"], "is no command: no closing quotation"),
        (["scorecard", "http://127.0.0.1:1", "--start", " "], "--start: there is no program"),
        (["scorecard", "http://127.0.0.1:1", "--start", "sleep 1", "--server-pid", "1"], "--server-pid: with --start"),
        # nobody sent it: it was ignored, or fetched the page that it was to post to
        *(
            ([*command.split(), "http://127.0.0.1:1", "--request", request], f"--request: no client sends '{request}'")
            for command, request in (
                ("attack --kind slow-head", "PUT /api"),
                ("attack --kind slow-head --victim GET", "GET /api"),
                ("capacity --of newcomers --protocol http", "POST /api"),
                ("run --mix echo=1 --clients 1", "GET /api"),
                ("run --mix chat=1 --clients 1", "POST /api"),
                ("capacity --of messages", "GET /api"),
            )
        ),
        *(
            ([*command.split(), "http://127.0.0.1:1", "--body", __file__], "--body: no client sends it")
            for command in ("run --mix echo=1 --clients 1", "attack --kind slow-body", "capacity --of newcomers")
        ),
        (["attack", "http://127.0.0.1:1"], "--kind is missing. See loadgen attack --help"),
        (["attack", "http://127.0.0.1:1", "--kind", ","], "--kind"),
        (["attack", "http://127.0.0.1:1", "--kind", "slow-head", "--victims", "0"], "--victims"),
        (["atack"], "atack"),
        (["run", "http://127.0.0.1:1", "--wait", "-1"], "--wait"),
        (["capacity", "http://127.0.0.1:1", "--of", "joy"], "joy"),
        # a server that answered 400 a second and refused the rest held any number: exit code 0, also for a threshold
        (["capacity", "http://127.0.0.1:1", "--no-bar"], "--no-bar: the bar is what a size must hold"),
    ],
)
def test_bad_flags_are_one_line_that_names_them(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("loadgen: ")
    assert err.count("\n") == 1
    assert error in err


def test_the_other_ways_not_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("run", "http://127.0.0.1:1", "--clients", "10") == 1
    assert "nothing answers at 127.0.0.1 port 1" in capsys.readouterr().err
    assert exit_code("run", "http://127.0.0.1:1", "--clients", "100000") in {1, 3}, "by this machine's descriptors"
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert exit_code("run", "http://192.0.2.1") == 4
    assert "refused" in capsys.readouterr().err


def test_another_system_is_told_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS each command but `--version` ended in a traceback and in a fault of its own."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert exit_code("list") == Outcome.INVALID.exit_code
    assert capsys.readouterr().err == "loadgen: this needs Linux: epoll, TCP_INFO, /proc (chatserver itself does not)\n"


def test_where_neighbours_take_the_descriptors_the_advice_names_their_flag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It advised to ask for fewer attackers than 136, of ten that had been asked for."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (200, 200))
    with planted() as server:
        asked = ("attack", server.url, "--kind", "slow-head", "--clients", "10", "--victims", "1", "--newcomers", "0")
        assert exit_code(*asked) == 3
        assert "ask for at most 136 (--clients, --neighbours)" in capsys.readouterr().err
        assert exit_code("play", server.url, "--scenario", str(ROOT / "docs/scenarios/working-day.toml")) == 3
    assert "ask for at most 136 (--scenario)" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["attack", "--kind", "slow-head"], ["scorecard"]], ids=["attack", "scorecard"])
def test_addresses_of_their_own_are_refused_where_attackers_can_have_one_only(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.net.target.probe", lambda where: None)
    assert exit_code(*command, "http://[::1]:1", "--per-address", "1") == 2
    assert "--per-address: ::1 is not in 127.0.0.0/8" in capsys.readouterr().err


#: Flags that would change nothing there.
POINTLESS = {
    "compare": ("--fail-if", "--no-bar", "--server-pid"),  # it judges nobody, and there are several servers
    "capacity": ("--persona",),  # --protocol says who plays
    "conform": ("--seed",),  # nothing is left to chance
}


def test_list_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("list") == 0
    listed = capsys.readouterr().out
    for name in registry():
        assert f"  {name} " in listed
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"loadgen {metadata.version('chatserver')}\n"
    for command in ("", *(name for name in app if not name.startswith("-"))):
        assert exit_code(*command.split(), "--help") == 0
        told = capsys.readouterr().out
        assert "Usage: loadgen" in told
        assert not any(flag in told for flag in POINTLESS.get(command, ()))
        assert not re.search(
            r"\bARGS\b|--[a-z-]+ (STR|INT|FLOAT|PATH \| None)\b|default: (None|False|\(\)|\"\")", told
        ), told


def test_json_is_all_that_is_on_standard_output_and_thresholds_decide(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the processes of its crowd as well, which have the same descriptors."""
    monkeypatch.setattr(common, "Plan", partial(Plan, settle_seconds=SETTLE_SECONDS))
    asked = ["--clients", "20", "--duration", "0.2", "--json", "--seed", "7", "--fail-if", "held>19,lag_max_ms<0"]
    with planted() as server:
        code = exit_code("run", server.url, *asked)
    out, err = capfd.readouterr()
    assert code in {1, 3}, err
    report = json.loads(out)
    assert (report["schema"], report["seed"], report["figures"]["held"]) == (SCHEMA, 7, 20)
    assert "held is 20 (held>19)" in report["verdict"]["reasons"]
    assert "seed 7" in err


@pytest.mark.parametrize(
    ("command", "asked", "seconds"),
    [
        ("attack", ["--kind", "slow-head", "--duration", "2"], 60),
        ("attack", ["--kind", "slow-head", "--duration", "70"], 72),
        ("attack", ["--kind", "slow-head", "--duration", "2", "--fixed-duration"], 4),
        ("attack", ["--kind", "slow-head", "--duration", "2", "--neighbours", "0", "--request", "POST /api"], 4),
        ("attack", ["--kind", "slow-head", "--duration", "2", "--neighbours", "0", "--request", "GET /page"], 4),
        ("scorecard", ["--kind", "tls-key-updates,ping-flood,slow-head", "--victim", "GET /", "--duration", "70"], 72),
    ],
)
def test_what_is_announced_is_as_long_as_the_neighbours_need_beside_all_that_is_played(
    command: str, asked: list[str], seconds: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said "about 8 s" of a minute, and half an hour of a scorecard of which most cannot be played."""
    monkeypatch.setattr(Player, "play", AsyncMock(side_effect=InvalidRunError("not here")))
    with planted() as server:
        brief = ["--clients", "1", "--baseline", "1", "--recovery", "1"]
        assert exit_code(command, server.url, *brief, *asked) == 3
    assert f" connections for about {seconds} s, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mix", "rate", "is_said"),
    [
        ("request=1", 0, True),
        ("idle=1,chat=1", 0, True),
        ("idle=1", 0, False),  # they have nothing to say
        ("request=1", 1, False),
    ],
)
def test_a_run_that_sends_nothing_says_so(
    mix: str, rate: int, is_said: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that accepts connections and answers nobody was held without a word, and then in scenarios still."""
    (tmp_path / "it.toml").write_text(
        f'[[groups]]\nname = "a"\nclients = 2\nmix = "{mix}"\n'
        '[[phases]]\nname = "b"\nseconds = 1\nopen = { a = 1.0 }\n' + "rate = 1\n" * rate
    )

    async def not_played(player: Player) -> Report:
        return player.report_without("", Outcome.HELD)

    monkeypatch.setattr(Player, "reported", not_played)
    with planted() as server:
        ran = call("run", server.url, "--clients", "2", "--mix", mix, "--rate", f"{rate}")
        played = call("play", server.url, "--scenario", f"{tmp_path / 'it.toml'}")
    for found in (ran, played):
        assert ("messages and requests, none were sent" in found.stdout) is is_said


def _noting_starts(folder: Path, port: int, most: int) -> str:
    """The command of the smallest web server that serves many at once; a chat would take ten times as long to start."""
    program = folder / "target.py"
    program.write_text(
        "import http.server, pathlib\n"
        f"starts = pathlib.Path({str(folder / 'starts')!r})\n"
        "with starts.open('a') as noted: noted.write('x')\n"
        f"if starts.stat().st_size > {most}: raise SystemExit('no disk')\n"
        f"http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')\n"
    )
    return shlex.join((sys.executable, str(program)))


def test_a_scorecard_starts_its_target_for_each_attack_has_a_floor_beside_it_and_writes_its_report(
    tmp_path: Path,
) -> None:
    port = steady_port()
    done = call(
        "scorecard", f"http://127.0.0.1:{port}", "--kind", "idle-connect,malformed-http", "--clients", "5",
        "--duration", "1", "--baseline", "0.6", "--recovery", "0.6", "--victims", "3", "--victim", "GET /",
        "--neighbours", "0", "--newcomers", "2", "--timeout", "30", "--start", _noting_starts(tmp_path, port, 3),
        "--floor", "--report", str(tmp_path / "report"), "--json",
    )  # fmt: skip
    assert done.returncode in {0, 1, 3}, done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report == json.loads(done.stdout)
    assert report["figures"]["attacks"] == 2
    beside, alone = report["parts"]
    assert (beside["command"], alone["command"]) == ("idle-connect", "malformed-http")
    assert beside["figures"]["success_percent"] == alone["figures"]["success_percent"] == 100, done.stderr
    assert beside["figures"]["server_descriptors_left"] is not None, "it was measured"
    assert beside["figures"]["floor_p99_ms"] or "at the floor" in beside["verdict"]["notes"][-1]
    assert alone["figures"]["floor_p99_ms"] is None
    assert done.stderr.count("at the floor first") == 1
    assert "\n| idle-connect | " in (tmp_path / "report" / "report.md").read_text()
    assert len((tmp_path / "starts").read_text()) == 3, "once to look at it, and once for each attack"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_foreign_process_is_not_taken_for_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Its memory and CPU would be the target's, and its end would be held against it."""
    with planted_process() as (url, _), planted_process() as (_, foreign):
        what = ("attack", url, "--kind", "idle-connect", "--server-pid")
        assert exit_code(*what, str(foreign)) == 2
        out, err = capsys.readouterr()
    assert out == ""
    told = f"loadgen: --server-pid: neither process {foreign} nor a child of it listens"
    assert err.splitlines()[-1].startswith(told)


@pytest.mark.parametrize("starts", [0, 1], ids=["never", "once"])
def test_a_target_that_does_not_start_is_told_at_once_and_later_in_its_row(tmp_path: Path, starts: int) -> None:
    port = steady_port()
    done = call(
        "scorecard", f"http://127.0.0.1:{port}", "--kind", "slow-head", "--clients", "5", "--json",
        "--start", _noting_starts(tmp_path, port, starts),
    )  # fmt: skip
    why = "--start: the target ended with exit code 1: no disk"
    if not starts:
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.count(why) == 1
        return
    assert done.returncode == 3, done.stderr
    [part] = json.loads(done.stdout)["parts"]
    assert part["verdict"]["reasons"] == [why]


def test_what_listens_already_is_not_started(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert exit_code("scorecard", url, "--start", "sleep 1") == 2
    assert "something listens" in capsys.readouterr().err


@contextmanager
def running(
    *arguments: str, until: str, program: tuple[str, str] = ("-m", "loadgen"), **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """The program in a session of its own, once it has said this on standard error."""
    command = [sys.executable, *program, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, **pipes) as process:  # type: ignore[call-overload]
        assert any(until in line for line in process.stderr)
        yield process


def ended(process: subprocess.Popen[str]) -> str:
    """What is on standard output of a program that was stopped by Ctrl-C."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "INTERRUPTED" in out
    assert "Traceback" not in err
    return out


def test_ctrl_c_at_the_floor_leaves_nothing_behind(tmp_path: Path) -> None:
    told = "--kind slow-head --clients 5 --duration 600 --baseline 0.3 --neighbours 0 --victim ws --floor"
    few = "--victims 1 --newcomers 0"
    with (
        planted() as server,
        running("scorecard", server.url, *f"{told} {few}".split(), until="attack:", TMPDIR=str(tmp_path)) as process,
    ):
        assert list(tmp_path.iterdir()), "the floor has its folder there"
        process.send_signal(signal.SIGINT)
        ended(process)
    assert not list(tmp_path.iterdir()), "it is removed after the floor was killed"


def test_a_stop_ends_with_the_report_so_far() -> None:
    """Supervisors send SIGTERM to all: the generator's own processes died of it, and there was no report."""
    told = ("run", "--clients=20", "--duration=600")
    with planted() as server, running(*told, server.url, until="steady", program=("-c", AT_ONCE)) as process:
        os.killpg(process.pid, signal.SIGTERM)
        assert "idle  wanted 16  held 16" in ended(process)


def test_a_stop_before_the_first_phase_is_reported_too() -> None:
    """SIGTERM, as `timeout` sends it, ended the program at once while the page was waited for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running("run", url, until="is not answered yet") as process:
            process.terminate()
            ended(process)


def test_a_stop_while_the_target_is_waited_for_is_one_line() -> None:
    says = "target.is_open = lambda _: print('no', file=sys.stderr)"
    program = f"import sys; from loadgen import __main__; from loadgen.net import target; {says}; __main__.main()"
    with running("run", "http://127.0.0.1:1", "--wait=60", until="no", program=("-c", program)) as process:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "loadgen: stopped"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "error",
    [
        NameError("planted"),
        ExceptionGroup("of a nursery", [NameError("planted")]),
        ExceptionGroup("of two tasks", [UsageError("--mix"), ExceptionGroup("", [BrokenPipeError(), NameError()])]),
    ],
)
def test_a_fault_of_our_own_is_no_verdict(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python ends with 1 for it, which says that the target fell short."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(flags, "mix", broken)
    assert exit_code("run", "http://127.0.0.1:1") == 3
    assert "invalid run: a fault of the generator's own" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "flag"), [(name, flag) for name, flags in POINTLESS.items() for flag in flags])
def test_a_flag_that_would_change_nothing_is_refused(
    command: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And `--help` does not show it, as is proved with the other helps."""
    assert exit_code(command, flag, "1") == 2
    assert f"Unknown option: {flag}" in capsys.readouterr().err
