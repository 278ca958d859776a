"""Flags: what is refused before anything is installed or started."""

from pathlib import Path
from unittest.mock import Mock, call

import msgspec
import pytest

from loadgen.common import COMMON, Loading, Playing, arguments
from loadgen.compare.catalogue import OURS
from loadgen.compare.comparison import Comparison, compare
from loadgen.net.target import TargetDownError
from loadgen.report.schema import Report
from loadgen.run.preflight import InvalidRunError
from tests.loadgen import reports
from tests.loadgen.commandline import exit_code
from tests.loadgen.planted import Plant, planted, planted_process
from tests.loadgen.plays import SETTLE_SECONDS


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--peers flor", "--peers: there is no 'flor'; did you mean floor?"),
        ("--peers apache", f"--peers: there is no 'apache'; there are {OURS}, "),
        ("--only idle,sleep", "--only: there is no 'sleep'; there are idle, poll, fanout, beside, attack"),
        ("--attacks slow-haed", "--attacks: there is no 'slow-haed'; did you mean slow-head"),
        ("--repeats 0", "--repeats"),
        ("--scale 0", "--scale"),
        ("--clients 5", "--clients: it is for URLs"),
        ("--report /proc/nowhere", "--report"),
        ("--request GET/x", "--request: it is for URLs; each scenario says what the servers of the catalogue"),
        ("--header A:b", "--header: it is for URLs"),
        ("--ws-path /x", "--ws-path: it is for URLs"),
        ("--wait 3", "--wait: it is for URLs"),
        ("--mix idle=1", "--mix: it is for URLs"),
        ("--rate 5", "--rate: it is for URLs"),
        ("--duration 5", "--duration: it is for URLs"),
        ("http://127.0.0.1:1", "URL: name two servers or more, each once"),
        ("http://127.0.0.1:1 http://127.0.0.1:1", "URL: name two servers or more, each once"),
        ("http://a http://b --only idle", "--only: it is for the servers of the catalogue, and not for URLs"),
    ],
)
def test_bad_flags_are_named(arguments: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("compare", *arguments.split()) == 2
    assert capsys.readouterr().err.startswith(f"loadgen: {error}")


@pytest.mark.parametrize(("flag", "value"), [("--request", "GET /x"), ("--body", __file__)])
def test_what_no_client_would_send_is_refused(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It was ignored, and the servers were compared by something else."""
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert exit_code("compare", *urls, "--mix", "echo=1", "--clients", "1", flag, value) == 2
    assert capsys.readouterr().err.startswith(f"loadgen: {flag}: no client sends")


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for before anything is read: no figure is looked at here."""
    monkeypatch.setattr("loadgen.compare.comparison.SETTLE_SECONDS", SETTLE_SECONDS)


def test_more_than_this_machine_can_hold() -> None:
    with pytest.raises(InvalidRunError, match=r"156,000 .*descriptors"):
        compare(scale=10)


def test_what_is_played_is_what_was_asked_and_its_tables_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it is played is test_comparison.py's."""
    made: list[Comparison] = []

    async def play(self: Comparison) -> Report:
        made.append(self)
        return reports.comparison()

    monkeypatch.setattr(Comparison, "play", play)
    asked = "--peers floor --only idle --scale 0.7 --repeats 2 --json --seed 7"
    assert exit_code("compare", *asked.split(), "--report", str(tmp_path)) == 0
    expected = reports.comparison()
    for each in (expected, *expected.parts):
        each.arguments = arguments()
    assert msgspec.json.decode(capsys.readouterr().out, type=Report) == expected
    assert "\n\n| server | slow-head | ratio |\n" in (tmp_path / "report.md").read_text()
    [played] = made
    assert [peer.name for peer in played.peers] == [OURS, "floor"]
    assert [scenario.name for scenario in played.scenarios] == ["idle"]
    assert (played.sizes.crowd, played.repeats) == (7_000, 2)
    assert played.measured.seed == 7


@pytest.mark.parametrize(
    "arguments", [("--peers", OURS, "--only", "idle"), ("http://127.0.0.1:1", "http://127.0.0.1:2")]
)
def test_it_warns_of_a_busy_machine(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every other command does; here it started a quarter of an hour of invalid measurements without a word."""
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0))
    monkeypatch.setattr("loadgen.compare.comparison.find", Mock())
    monkeypatch.setattr("trio.run", Mock(side_effect=KeyboardInterrupt))
    assert exit_code("compare", *arguments) == 130
    assert "keep this machine busy (load 99.0" in capsys.readouterr().err


def test_a_server_that_is_still_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are, before anything is measured."""
    find = Mock(side_effect=["found", TargetDownError])
    monkeypatch.setattr("loadgen.compare.comparison.find", find)
    with pytest.raises(TargetDownError):
        compare("http://127.0.0.1:1", "http://127.0.0.1:2", loading=Loading(wait=9.0), common=COMMON)
    assert find.mock_calls == [call("http://127.0.0.1:1", COMMON, 9.0), call("http://127.0.0.1:2", COMMON, 9.0)]


@pytest.mark.usefixtures("without_pauses")
def test_without_figures_of_both_there_is_nothing_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    """One does not serve what it is asked for: its answers are quick, and mean nothing."""
    with planted() as one, planted(Plant(page=404)) as other:
        code = compare(one.url, other.url, clients=2, rate=20.0, duration=0.4, repeats=1)
    out = capsys.readouterr().out
    assert code == 3, out
    assert f"load, {other.url}: nothing was measured, as no request for / was served: answered 404: " in out


@pytest.mark.usefixtures("without_pauses")
def test_a_server_that_redirects_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """It had a fiftieth of the other's time, and nothing said that it had served no page."""
    with planted() as one, planted(Plant(page=302)) as other:
        compare(one.url, other.url, clients=2, rate=20.0, duration=0.4, repeats=1)
    note = f"{other.url}: GET / was answered 302: redirects are not followed, so name the page that it leads to"
    assert capsys.readouterr().out.count(note) == 1


@pytest.mark.usefixtures("without_pauses")
def test_a_server_that_dies_while_it_is_measured_has_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """It had those of answers that did not come, and the comparison held."""
    posting = Playing(request="POST /rooms/lobby/messages")
    with planted() as one, planted_process(Plant(dies_of="POST")) as (url, _):
        code = compare(one.url, url, clients=2, rate=20.0, duration=0.4, repeats=1, loading=posting)
    assert code == 3
    assert f"load, {url}: died: nothing listens at 127.0.0.1 port " in capsys.readouterr().out


@pytest.mark.usefixtures("without_pauses")
def test_servers_that_run_already_are_compared_in_turns(capsys: pytest.CaptureFixture[str]) -> None:
    with planted() as one, planted() as other:
        code = compare(one.url, other.url, clients=4, rate=20.0, duration=0.4, repeats=1)
        asked = (len(one.requests), len(other.requests))
    out = capsys.readouterr().out
    assert code in {0, 3}
    assert min(asked) >= 4, "each was asked eight times, and a few more"
    for url in (one.url, other.url):
        assert f"The same load: {url}" in out
    assert "Servers: " not in out, "nothing is known of them"
