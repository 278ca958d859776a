"""A persona that lives outside the tree."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from loadgen.compare.comparison import Comparison
from loadgen.net.target import UsageError
from loadgen.personas import load, registry
from loadgen.report.schema import Report
from loadgen.run import experiment
from loadgen.run.player import Player
from tests.loadgen import reports
from tests.loadgen.commandline import exit_code
from tests.loadgen.planted import planted
from tests.loadgen.plays import SETTLE_SECONDS, plan

OWN = '''
"""One that says hello."""

from loadgen.clients.client import Client, Needs
from loadgen.personas import persona


@persona
class Hello(Client):
    """Connects, says hello and is happy with any answer."""

    __slots__ = ()

    name = "hello-from-outside"
    honest = True
    needs = Needs.HTTP

    def opening(self) -> bytes:
        return b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"

    def on_data(self, data: bytes) -> None:
        self.hold()
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file; what it registers is forgotten after the test."""
    monkeypatch.setattr("loadgen.personas._registry", dict(registry()))
    monkeypatch.setattr("loadgen.personas._loaded", set())
    (tmp_path / "hello.py").write_text(OWN)
    return str(tmp_path / "hello.py")


def test_running_servers_are_compared_with_it(
    own: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadgen.compare.comparison.SETTLE_SECONDS", SETTLE_SECONDS)
    with planted() as one, planted() as other:
        words = ("--persona", own, "--mix", "hello-from-outside=1", "--clients", "2", "--duration", "0.3")
        assert exit_code("compare", one.url, other.url, *words, "--repeats", "1", "--json") in {0, 3}
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    found = [(part.target, part.cohorts[0].persona, part.figures["held"]) for part in report.parts]
    assert found == [(each.url, "hello-from-outside", 2) for each in (one, other)]


def test_an_attack_of_ones_own_is_a_scenario_of_the_catalogue(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(own).write_text(OWN.replace("honest = True", "honest = False"))
    played: list[Comparison] = []

    async def play(self: Comparison) -> Report:
        played.append(self)
        return reports.run()

    monkeypatch.setattr(Comparison, "play", play)
    assert exit_code("compare", "--persona", own, "--attacks", "hello-from-outside", "--only", "attack") == 0
    assert [scenario.name for scenario in played[0].scenarios] == ["attack-hello-from-outside"]
    assert played[0].measured.personas == (own,)


async def test_it_is_played_in_the_processes_of_a_crowd(own: str) -> None:
    await trio.Path(own).write_text(OWN + 'print("it was taken for an answer of the process")\n')
    load(own)
    load(own)  # once is enough
    what = experiment.honest_load({registry()["hello-from-outside"]: 4}, seconds=0.3)
    with planted() as server:
        report = await Player(plan(server.url, personas=(own,)), what).play()
    assert report.figures["held"] == 4
    assert report.cohorts[0].persona == "hello-from-outside"


@pytest.mark.parametrize(
    ("text", "error"),
    [("x = 1\n", "has no class with @persona"), ("x = \n", "SyntaxError"), ("raise SystemExit(0)\n", "SystemExit: 0")],
)
def test_what_is_none_is_one_line(own: str, text: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(own).write_text(text)
    assert exit_code("run", "http://127.0.0.1:1", "--persona", own) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"loadgen: --persona: {own}")
    assert err.count("\n") == 1
    assert error in err


def test_a_name_that_is_taken_is_the_files_fault(tmp_path: Path) -> None:
    """In a process that has loaded no persona yet, as the command line's."""
    (tmp_path / "own.py").write_text(OWN.replace("hello-from-outside", "slow-head"))
    words = [sys.executable, "-m", "loadgen", "run", "http://127.0.0.1:1", "--persona", str(tmp_path / "own.py")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"loadgen: --persona: {tmp_path / 'own.py'}: ValueError: two personas are called")
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_named(own: str) -> None:
    for name in (own.replace("hello.py", "none.py"), own.replace("hello.py", "hello.txt")):
        with pytest.raises(UsageError, match="--persona: "):
            load(name)
