"""The program as a process: signals, and standard streams that are closed or cannot be written."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _done(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("before", ["", "signal.signal(signal.SIGINT, signal.SIG_IGN)"], ids=["", "as with &"])
def test_sigterm_never_interrupts_trio_itself(before: str) -> None:
    """A second SIGTERM, or one before the first is awaited, ended in "internal error in Trio" and exit code 3.

    A script's `&` has SIGINT ignored, and with it SIGTERM was: the run went on to its end.
    """
    program = f"""if True:
        import signal, trio
        {before}
        from loadgen import __main__, cli
        class Clock(trio.abc.Clock):
            start_clock = lambda self: None
            current_time = lambda self: 0.0
            def deadline_to_sleep_time(self, deadline):  # between two tasks
                signal.raise_signal(signal.SIGTERM)
                assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
                return 0.0
        cli.main = lambda: trio.run(trio.sleep_forever, clock=Clock())
        __main__.main()"""
    done = _done(program)
    assert (done.returncode, done.stderr) == (130, "")


#: One interpreter, and a fork of it for each way to be started, which ends as an interpreter does.
_FORKS = """if True:
    import json, os, sys
    from loadgen import __main__, load
    def run(words, out, err):
        told = os.memfd_create("told")
        if not (pid := os.fork()):
            closed, unread = os.pipe()
            os.close(closed)
            streams = {"told": told, "unread": unread, "full": os.open("/dev/full", os.O_WRONLY)}
            os.dup2(streams[out], 1)
            os.dup2(streams[err], 2)
            sys.argv = ["loadgen", *words.split()]
            __main__.main()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.pread(told, 1000, 0).decode()
    print(json.dumps([run(*each) for each in json.loads(sys.argv[1])]))"""


def test_the_exit_code_is_right_where_nothing_can_be_printed() -> None:
    """`loadgen list | head` ended with a traceback, and `loadgen list --help | head` with the code of a target's fault.

    Python ends with 1 where standard error is full, which says that the target fell short.
    """
    expected = {
        ("list", "unread", "told"): [130, ""],
        ("list --help", "unread", "told"): [130, ""],  # which is printed by rich
        ("lst", "told", "full"): [2, ""],
        ("list", "full", "told"): [2, "loadgen: standard output: No space left on device\n"],
        ("list", "full", "full"): [2, ""],
    }
    assert json.loads(_done(_FORKS, json.dumps(list(expected))).stdout) == list(expected.values())
    closed = ["sh", "-c", f"{shlex.quote(sys.executable)} -m loadgen list >&-"]  # it was a fault of its own
    done = subprocess.run(closed, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_another_command_needs_is_not_imported() -> None:
    """`--version` took a second of CPU."""
    program = """if True:
        import os, sys
        from loadgen import cli
        for words, others in (
            ("--version", "trio msgspec loadgen.common loadgen.flags loadgen.report.schema"),
            ("run --help", "loadgen.compare loadgen.conform loadgen.fingerprint loadgen.scorecard"
             " prometheus_client importlib.metadata"),
        ):
            if not (pid := os.fork()):
                assert cli._main(words.split()) == 0
                sys.exit(", ".join(name for name in others.split() if name in sys.modules) or 0)
            os.waitpid(pid, 0)"""
    assert _done(program).stderr == ""
