"""loadgen's command line as a user has it: arguments in, an exit code and a report out.

It runs in the test's own process, which saves the start of an interpreter; the crowd and the victims have processes of
their own as ever. `test_cli.py` starts the program itself.
"""

import io
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from loadgen.cli import main
from loadgen.personas import registry
from loadgen.report.schema import Outcome, Report
from loadgen.report.verdict import causes
from loadgen.run.session import Plan
from tests.loadgen import forked
from tests.loadgen.planted import Plant, planted_process
from tests.loadgen.plays import SETTLE_SECONDS, beside_other_tests

#: A fault that a loaded machine hid is looked for so many times.
TRIES = 3

Serving = AbstractContextManager[tuple[str, int]]

#: A victim's patience where failures are answers that never come.
IMPATIENT = 2.0


@dataclass(frozen=True)
class Ended:
    code: int
    report: Report
    errors: str

    @property
    def outcome(self) -> Outcome:
        return self.report.outcome

    @property
    def reasons(self) -> str:
        return "; ".join(self.report.verdict.reasons)

    @property
    def notes(self) -> str:
        return "; ".join(self.report.verdict.notes)

    def figure(self, name: str) -> float:
        value = self.report.figures[name]
        assert value is not None, name
        return value

    def blames(self, *figures: str) -> bool:
        """Whether each of these figures is held against the target, or would be on a quiet machine."""
        verdict = self.report.verdict
        told = verdict.explanation if "latency not judged: " in self.reasons else verdict.reasons
        return all(any(each.startswith(f"{name} is ") for each in told) for name in figures)

    @property
    def was_disturbed(self) -> bool:
        """Whether this machine had too much else to do for the run to have been as it was meant."""
        parts = self.report.parts or [self.report]
        return any(causes(part.figures) for part in parts)


def exit_code(*arguments: str) -> int:
    """Run it as it is, with what it prints where the test has it."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert isinstance(exited.value.code, int)
    return exited.value.code


def call(*arguments: str, beside: Callable[[io.StringIO], None] | None = None) -> CompletedProcess[str]:
    """Run it to its end; `beside` runs in a thread meanwhile and is told what is printed on standard error."""
    out, errors = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        if beside is not None:
            threads = stack.enter_context(ThreadPoolExecutor(1))
            stack.callback(threads.submit(beside, errors).result)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(errors))
        stack.enter_context(patch("loadgen.common.Plan", partial(Plan, settle_seconds=SETTLE_SECONDS)))
        stack.enter_context(beside_other_tests())
        code = exit_code(*arguments)
    return CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def loadgen(*arguments: str, beside: Callable[[io.StringIO], None] | None = None) -> Ended:
    done = call(*arguments, "--json", beside=beside)
    assert done.stdout, done.stderr
    return Ended(done.returncode, msgspec.json.decode(done.stdout, type=Report), done.stderr)


def attack(
    url: str,
    kind: str,
    *arguments: str,
    clients: int = 30,
    victims: int = 3,
    baseline: float = 0.6,
    duration: float = 2.0,
    recovery: float = 0.6,
    timeout: float = 30.0,  # a loaded machine costs no operation; those that wait for a failure want less
    neighbours: int = 0,
    newcomers: float = 2.0,  # one costs as much CPU as many operations of a victim
    fixed_duration: bool = True,
    command: str = "attack",
    beside: Callable[[io.StringIO], None] | None = None,
) -> Ended:
    return loadgen(
        command, url, "--kind", kind, "--clients", str(clients), "--duration", str(duration), "--timeout", str(timeout),
        "--victims", str(victims), "--neighbours", str(neighbours), "--newcomers", str(newcomers),
        *(["--fixed-duration"] if fixed_duration else []), "--baseline", str(baseline), "--recovery", str(recovery),
        *arguments, beside=beside,
    )  # fmt: skip


def run(url: str) -> Ended:
    return loadgen(
        "run", url, "--clients", "20", "--mix", "idle=50,poll=20,sse=10,chat=20", "--rate", "50", "--duration", "1",
        "--rooms", "2",
    )  # fmt: skip


def tried(play: Callable[[], Ended], good: Callable[[Ended], bool]) -> Ended:
    """Play until it is good; a second and a third time only where this machine was disturbed."""
    for _ in range(TRIES):
        ended = play()
        if good(ended) or not ended.was_disturbed:
            break
    return ended


def attacked(
    server: Callable[[], Serving], kind: str, *arguments: str, good: Callable[[Ended], bool], **how: Any
) -> Ended:
    """Attack a server until what is looked for was found, so long as the machine may have hidden it."""

    def play() -> Ended:
        with server() as (url, _):
            return attack(url, kind, *arguments, **how)

    return tried(play, good)


def falls_short(
    plant: Plant,
    kind: str = "idle-connect",
    *arguments: str,
    blamed: tuple[str, ...],
    watched: bool = False,
    **how: Any,
) -> Ended:
    """Attack a chat whose fault shows in counts: the verdict is the same on a loaded machine, and after a second."""
    brief = {"baseline": 0.6, "duration": 1.2, "recovery": 0.4}
    with planted_process(plant, watched=watched) as (url, pid):
        watching = ("--server-pid", str(pid)) if watched else ()
        ended = attack(url, kind, *arguments, *watching, **{**brief, **how})
    assert ended.code == 1, ended
    assert ended.outcome is Outcome.FELL_SHORT
    assert ended.blames(*blamed), ended
    return ended


def is_late(plant: Plant, *, blamed: tuple[str, ...], **how: Any) -> None:
    """Attack a chat whose fault shows in times: on a loaded machine it is told, and the verdict *invalid*."""
    server = partial(planted_process, plant)
    ended = attacked(server, "idle-connect", "--victim", "ws", good=lambda ended: ended.blames(*blamed), **how)
    assert ended.blames(*blamed), ended
    assert ended.code == 1 or (ended.code == 3 and ended.was_disturbed), ended
    if "recovery_p99_over_bar_ms" in blamed:
        assert re.search(r"late at the 99th percentile: .* in the recovery \d\S* ms \(bar \d", ended.notes), ended


#: Figures that a sound server keeps at 0 however busy the machine is; times are judged in test_findings.py.
COUNTS = ("baseline_failed", "attack_failed", "recovery_failed", "newcomers_failed")

#: The same, of a chat.
KEPT = ("acknowledged_lost",)


def held(
    server: Callable[[], Serving], kind: str, *arguments: str, counts: tuple[str, ...] = COUNTS, **how: Any
) -> Ended:
    """Attack a sound server: a loaded machine may keep an attack from coming, but makes no operation fail."""
    bar = ("--no-bar", "--fail-if", ",".join(f"{name}>0" for name in counts))
    ended = attacked(server, kind, *arguments, *bar, good=lambda ended: ended.outcome is Outcome.HELD, **how)
    assert (ended.code, ended.outcome) == (0, Outcome.HELD), ended
    return ended


def with_short_cycles(seconds: float) -> ExitStack:
    """While it is open the honest slow do within so many seconds what they want to be judged by."""
    stack = ExitStack()
    for persona in registry().values():
        if persona.slow:
            stack.enter_context(patch.object(persona, "cycle_seconds", seconds))
    return stack


def stand_still(part: str, progress: io.StringIO, phase: str = "attack") -> None:
    """Stop the generator's processes that play this part for 1.2 s, once the phase has begun."""
    deadline = time.monotonic() + 60
    while f"{phase}: " not in progress.getvalue():
        assert time.monotonic() < deadline, progress.getvalue()
        time.sleep(0.02)
    parts = sorted(forked.playing[part])
    assert parts
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in parts:
            os.kill(pid, number)
        time.sleep(1.2)
