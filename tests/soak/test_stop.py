"""A soak that is stopped early reports what it has found, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.soak import __main__ as soak
from tests.soak.campaign import Campaign, Report
from tests.soak.cluster import Cluster
from tests.soak.ledger import Violation
from tests.soak.nodes import START_PATIENCE, Node
from tests.support.serving import LIFE

FAREWELL_SHARE = "its last words"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, in a soak whose node is never started."""

    @asynccontextmanager
    async def still(folder: Path, *, workers: int) -> AsyncIterator[Cluster]:
        node = Node("node-1", folder, workers=workers)
        node.errors.write_text(f"{FAREWELL_SHARE}\n")
        yield Cluster([node])

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(soak.ENGINES, "sqlite", still)
    return tmp_path


def run() -> int:
    return soak.main(["--engine", "sqlite", "--seed", "7"])


def left_in(folder: Path) -> list[str]:
    """Files in a folder, and processes that have it as their working directory."""
    found = [path.name for path in folder.iterdir()]
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                where = (process / "cwd").readlink()
            except OSError:
                continue  # it has ended
            if where.is_relative_to(folder):
                found.append(process.name)
    return found


def test_a_broken_promise_is_reported_with_the_results_so_far(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is removed, and the report has the progress of the run."""

    async def broken(campaign: Campaign, seconds: float) -> Report:
        campaign.report.troubles["kill worker"] += 3
        raise Violation("record 7 of lobby is lost")

    monkeypatch.setattr(Campaign, "run", broken)
    assert run() == 1
    told = capsys.readouterr()
    assert told.err == "VIOLATION  record 7 of lobby is lost\nengine sqlite, seed 7\n"
    assert "until then: 0 s, 0 rounds, 3 troubles:\n     3  kill worker\n" in told.out
    assert f"node-1: {FAREWELL_SHARE}" in told.out
    assert "none lost" not in told.out
    assert left_in(temporary) == []


async def interrupted(campaign: Campaign, seconds: float) -> Report:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()
    raise AssertionError


@asynccontextmanager
async def interrupted_before_it_serves(folder: Path, *, workers: int) -> AsyncIterator[Cluster]:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep(LIFE)
    yield Cluster([])


@pytest.mark.parametrize(("serves", "told"), [(True, "until then: 0 s, 0 rounds"), (False, "nothing was done yet\n")])
def test_ctrl_c_ends_without_a_traceback(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serves: bool, told: str
) -> None:
    monkeypatch.setattr(Campaign, "run", interrupted)
    if not serves:
        monkeypatch.setitem(soak.ENGINES, "sqlite", interrupted_before_it_serves)
    assert run() == 130
    assert capsys.readouterr().out.partition("ending\n")[2].startswith(told)
    assert left_in(temporary) == []


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--engine", "sqlite"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            assert running.stdout.readline().startswith("sqlite, seed ")
            end = time.monotonic() + START_PATIENCE
            while len(left_in(tmp_path)) < 1 + 2:  # the folder, a supervisor and a worker
                assert running.poll() is None, running.stdout.read()
                assert time.monotonic() < end, "no node has started"
                time.sleep(0.05)
            os.killpg(running.pid, signal.SIGINT)  # as a terminal does
            output, _ = running.communicate(timeout=LIFE)
            assert running.returncode == 130, output
            assert "Traceback" not in output
            assert left_in(tmp_path) == []
        finally:
            running.kill()
