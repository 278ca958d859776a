"""Random walks of the page's tabs, in node: see walk.mjs, which plays longer ones by hand."""

import shutil
import subprocess
from pathlib import Path

import pytest

WALK = Path(__file__).with_name("walk.mjs")
WEB = Path(__file__).parents[2] / "chatserver" / "web"
NEEDED = "process.exit(AbortSignal.any && [].toSorted ? 0 : 1)"  # node 20.3, as the browsers that the page needs
PATIENCE = 300.0  # s; 2 s of CPU


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None or subprocess.run([found, "-e", NEEDED], check=False).returncode:
        pytest.skip("no node 20.3 or newer on this machine")
    return found


def walk(node: str, *flags: str) -> list[str]:
    command = [node, str(WALK), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout.splitlines()


def test_each_tab_ends_with_what_the_log_has(node: str) -> None:
    assert walk(node, "--walks", "60", "--steps", "25") == ["0 of 60 walks failed"]


def test_a_walk_is_the_same_each_time_and_finds_a_planted_fault(node: str, tmp_path: Path) -> None:
    """A message that is sent again gets another key."""
    web = shutil.copytree(WEB, tmp_path / "web")
    outbox = web / "outbox.js"
    sound = outbox.read_text(encoding="utf-8")
    faulty = sound.replace(
        "item.firstTried ??= Date.now();", "item.firstTried ??= Date.now(), (item.key = randomKey());"
    )
    assert faulty != sound
    outbox.write_text(faulty, encoding="utf-8")
    first, second = (walk(node, "--web", str(web), "--walks", "10", "--steps", "25", "--verbose") for _ in range(2))
    assert any("twice" in line for line in first)
    assert first == second
