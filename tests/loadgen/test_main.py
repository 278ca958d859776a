"""The program as a process: signals, and standard streams that are closed or cannot be written."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_sigterm_never_interrupts_trio_itself() -> None:
    """A second SIGTERM, or one before the first is awaited, ended in "internal error in Trio" and exit code 3."""
    program = """if True:
        import signal, trio
        from loadgen import __main__, cli
        class Clock(trio.abc.Clock):
            start_clock = lambda self: None
            current_time = lambda self: 0.0
            def deadline_to_sleep_time(self, deadline):  # between two tasks
                signal.raise_signal(signal.SIGTERM)
                return 0.0
        cli.main = lambda: trio.run(trio.sleep_forever, clock=Clock())
        __main__.main()"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("arguments", [["list"], ["list", "--help"]], ids=" ".join)  # the latter printed by rich
def test_output_that_nobody_reads_any_more_is_no_fault(arguments: list[str]) -> None:
    """`loadgen list | head` ended with a traceback, `loadgen list --help | head` with the code of a target's fault."""
    with subprocess.Popen([sys.executable, "-m", "loadgen", *arguments], cwd=ROOT, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")


@pytest.mark.parametrize(
    ("command", "code", "out"),
    [
        ("list >&-", 0, ""),  # it was a fault of its own
        ("lst 2>/dev/full", 2, ""),  # Python ends with 1 for it, which says that the target fell short
        ("list >/dev/full", 2, "loadgen: standard output: No space left on device\n"),
        ("list >/dev/full 2>/dev/full", 2, ""),
    ],
)
def test_the_exit_code_is_right_where_nothing_can_be_printed(command: str, code: int, out: str) -> None:
    program = f"{shlex.quote(sys.executable)} -m loadgen {command}"
    done = subprocess.run(["sh", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, out)


@pytest.mark.parametrize(
    ("arguments", "others"),
    [
        (["--version"], ("trio", "msgspec", "loadgen.common", "loadgen.flags", "loadgen.report.schema")),
        (
            ["run", "--help"],
            (
                "loadgen.compare",
                "loadgen.conform",
                "loadgen.fingerprint",
                "loadgen.scorecard",
                "prometheus_client",
                "importlib.metadata",
            ),
        ),
    ],
    ids=" ".join,
)
def test_what_another_command_needs_is_not_imported(arguments: list[str], others: tuple[str, ...]) -> None:
    """`--version` took a second of CPU."""
    program = (
        f"import sys; from loadgen import cli; assert cli._main({arguments}) == 0;"
        f" sys.exit(', '.join(name for name in {others} if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
