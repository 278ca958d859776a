"""The flags of `loadgen conform`, its exit codes, and its report on disk."""

import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from loadgen.report.schema import Report
from tests.loadgen import commandline
from tests.loadgen.conform.marks import marks
from tests.loadgen.conform.planted import Plant
from tests.loadgen.plants import in_process

exit_code = partial(commandline.exit_code, "conform")


@contextmanager
def served(plant: Plant) -> Iterator[str]:
    """A planted server in a process of its own: the command runs a loop here."""
    with in_process("tests.loadgen.conform.planted", fault=plant) as (url, _):
        yield f"{url}/echo"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "URL: name a WebSocket that echoes"),
        (["ws://127.0.0.1:1/echo", "--case", "8.*"], "--case: no case is '8.*'"),
        (["ws://127.0.0.1:1/echo", "--timeout", "0"], "--timeout"),
        (["ws://127.0.0.1:1/é"], "URL: '/é' is no path"),
        (["ws://[::1/echo"], "URL: 'ws://[::1/echo' is not like ws://HOST:PORT: invalid ipv6 url"),
        (["ws://127.0.0.1:1/echo", "--fail-if", "speed>1"], "known are cases"),
        (["ws://127.0.0.1:1/echo", "--report", "/dev/null/no"], "--report"),
    ],
)
def test_bad_flags_are_named(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    assert error in capsys.readouterr().err


def test_nobody_there_means_that_nothing_was_exercised(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert exit_code(f"ws://127.0.0.1:{unused.getsockname()[1]}/echo") == 3
    assert "invalid run: nothing answers at 127.0.0.1" in capsys.readouterr().err


def test_the_list_needs_no_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--list", "--case", "6.1.*") == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == ["6.1.1", "6.1.2", "6.1.3"]


@pytest.mark.parametrize(("status", "why"), [(404, "answers the handshake with 404"), (503, "turns us away: 503")])
def test_what_does_not_echo_is_one_line(status: int, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with served(Plant(status=status)) as url:
        assert exit_code(url) == 3
    assert f"/echo is no WebSocket that echoes: it {why}" in capsys.readouterr().err.splitlines()[-1]


def test_a_server_behind_a_token_is_given_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it could be exercised."""
    with served(Plant(token="Bearer abc")) as url:
        assert exit_code(url, "--case", "0.*,1.1.2") == 3
        assert exit_code(url, "--case", "0.*,1.1.2", "--header", "Authorization: Bearer abc") == 0
    assert exit_code("ws://127.0.0.1:1/echo", "--header", "Connection: x") == 2
    assert "--header: Connection is written by loadgen itself" in capsys.readouterr().err


def test_an_echo_that_breaks_rules_will_do_and_another_text_is_no_echo(capsys: pytest.CaptureFixture[str]) -> None:
    with served(Plant(only_binary=True)) as url:
        assert exit_code(url, "--case", "1.1.2") == 1
    with served(Plant(says="what?")) as url:
        assert exit_code(url, "--case", "1.1.2") == 3
    assert "/echo is no WebSocket that echoes: it sends text b'what?'" in capsys.readouterr().err


def test_a_report_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(Plant(overlooks=("unmasked",))) as url:
        assert exit_code(url, "--case", "1.1.2,1.3.1,2.1", "--report", str(tmp_path), "--json") == 1
        printed = msgspec.json.decode(capsys.readouterr().out, type=Report)
        assert exit_code(url, "--case", "1.1.2,1.3.1", "--no-bar", "--fail-if", "wrong>1") == 0
        assert exit_code(url, "--case", "1.1.2", "--fail-if", "ok<2") == 1
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    assert msgspec.json.encode(report) == msgspec.json.encode(printed)
    assert marks(report) == {"1.1.2": "ok", "1.3.1": "wrong", "2.1": "ok"}
    assert report.figures == {"cases": 3, "ok": 2, "non_strict": 0, "wrong": 1, "not_exercised": 0}
    families = {
        case.get("name"): case.find("failure") is not None for case in ET.parse(tmp_path / "junit.xml").iter("testcase")
    }
    assert families == {"1 frames": True, "2 pings and pongs": False}
    assert "1.3.1" in (tmp_path / "report.html").read_text(encoding="utf-8")
