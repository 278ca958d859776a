"""loadgen as a user has it: a process, its exit code and what it prints."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What a machine that is loaded by other programs says of itself; no fault of a target.
OF_THE_MACHINE = ("the generator", "other programs", "the host", "the server waited", "the baseline is too loud")


@dataclass(frozen=True)
class Ended:
    """How it ended."""

    code: int
    text: str
    errors: str

    @property
    def verdict(self) -> str:
        """The last line."""
        return self.text.strip().splitlines()[-1] if self.text.strip() else ""

    def figure(self, name: str) -> float:
        """A figure of the report."""
        [found] = re.findall(rf"^figures: .*? figure {name} +(\S+)", self.text, re.MULTILINE)
        return float(str(found).replace(",", ""))

    def is_sound(self) -> bool:
        """Whether the target was not blamed: held, or nothing measured because of this machine."""
        if self.code == 0:
            return self.verdict.startswith("HELD")
        doubted = self.verdict.startswith("INVALID") and any(each in self.verdict for each in OF_THE_MACHINE)
        return self.code == 3 and doubted


def loadgen(*arguments: str, seconds: float = 120.0) -> Ended:
    """Run it to its end."""
    command = [sys.executable, "-m", "loadgen", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def attack(
    url: str,
    kind: str,
    *arguments: str,
    clients: int = 30,
    victims: int = 5,
    duration: float = 3.0,
    recovery: float = 1.0,
    neighbours: int = 0,
    fixed_duration: bool = True,
    command: str = "attack",
) -> Ended:
    """A short attack."""
    return loadgen(
        command, url, "--kind", kind, "--clients", str(clients), "--duration", str(duration), "--timeout", "2",
        "--victims", str(victims), "--neighbours", str(neighbours), *(["--fixed-duration"] if fixed_duration else []),
        "--baseline", "1", "--recovery", str(recovery), *arguments,
    )  # fmt: skip


def attack_while(url: str, kind: str, *, stopped: str) -> Ended:
    """A short attack, during which the generator's processes that play this part stand still for 1.2 s."""
    command = [
        sys.executable, "-m", "loadgen", "attack", url, "--kind", kind, "--clients", "30", "--duration", "5",
        "--timeout", "4", "--victims", "5", "--neighbours", "0", "--baseline", "1", "--recovery", "1",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = ""
        while "attack: " not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        time.sleep(1.0)
        parts = [pid for pid in _children(process.pid) if _command(pid)[-1] == stopped]
        assert parts
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in parts:
                os.kill(pid, number)
            time.sleep(1.2)
        out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, told + err)


def _children(pid: int) -> list[int]:
    """Of all its threads."""
    told = (task / "children" for task in Path(f"/proc/{pid}/task").iterdir())
    return [int(child) for children in told for child in children.read_text().split()]


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def scorecard(url: str, kinds: str, *arguments: str, clients: int = 30) -> Ended:
    """A short scorecard."""
    return attack(url, kinds, *arguments, clients=clients, command="scorecard")


def run(url: str, *arguments: str) -> Ended:
    """A short run of honest load."""
    return loadgen(
        "run", url, "--clients", "20", "--mix", "idle=50,poll=20,sse=10,chat=20", "--rate", "50", "--duration", "3",
        "--rooms", "2", *arguments,
    )  # fmt: skip
