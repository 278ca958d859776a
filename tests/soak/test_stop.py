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

from tests.soak import __main__ as soak
from tests.soak.campaign import Campaign
from tests.soak.cluster import Cluster
from tests.soak.ledger import Violation
from tests.soak.nodes import START_PATIENCE, Node
from tests.support.serving import LIFE


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is removed, and the report has the progress of the run."""

    @asynccontextmanager
    async def still(folder: Path, *, workers: int) -> AsyncIterator[Cluster]:
        node = Node("node-1", folder, workers=workers)
        node.errors.write_text("its last words\n")
        yield Cluster([node])

    async def broken(campaign: Campaign, seconds: float) -> None:
        campaign.troubles["kill worker"] += 3
        raise Violation("record 7 of lobby is lost")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(soak.ENGINES, "sqlite", still)
    monkeypatch.setattr(Campaign, "run", broken)
    assert soak.main(["--engine", "sqlite", "--seed", "7"]) == 1
    told = capsys.readouterr()
    assert told.err == "VIOLATION  record 7 of lobby is lost\nengine sqlite, seed 7\n"
    assert "until then: 0 s, 0 rounds, 3 troubles:\n     3  kill worker\n" in told.out
    assert "node-1: its last words" in told.out
    assert "none lost" not in told.out
    assert left_in(tmp_path) == []


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
