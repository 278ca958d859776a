"""One server, a single process or a supervisor with workers, that is started again whenever it ends, as systemd does.

Owns: its processes, all in the node's own sessions, so that they are found even when their supervisor is dead. May not:
choose the troubles.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import trio

from chatserver.exits import EXIT_CLEAN
from tests.soak.ledger import Violation
from tests.support.peers import Address
from tests.support.ports import steady_port
from tests.support.running import PARENT, SESSION, all_running
from tests.support.serving import RATES, eventually

#: Seconds between two attempts to start, when the database is away or the last worker still drains.
RESTART_PAUSE = 0.2
#: Seconds for a node to say where it listens, and to end when told to: generous, since the machine may be busy.
START_PATIENCE, END_PATIENCE = 120.0, 60.0
DRAIN_TIMEOUT = 5
#: A process's own folder, by a path that is short enough for the sockets of workers however long that of the folder is.
HERE = "/proc/self/cwd"
#: How a line begins that says why a node does not start, and the errors that troubles lead to.
COMPLAINT = "chatserver: "
#: Lines about a worker that was stopped, or killed while it replaced another; and a last commit that waited for CPU.
EXPECTED_ERRORS = ("worker_hung", "worker_not_replaced", "last_commit_hangs")


class Node:
    """`run` starts it again and again; `up` is set while it serves."""

    def __init__(self, name: str, folder: Path, *flags: str, workers: int) -> None:
        self.name = name
        self.port = steady_port()
        self.address = Address("127.0.0.1", self.port)
        self.errors = folder / f"{name}.err"
        self.up = trio.Event()
        self.starts = 0
        self.may_end = False  # its end was requested
        self._workers = workers
        self._folder = folder
        self._flags = [
            "serve", "--port", str(self.port), "--per-ip", "0", "--workers", str(workers),
            "--drain-timeout", str(DRAIN_TIMEOUT), "--retain-messages", "0",
            *(word for name in RATES for word in (f"--{name.replace('_', '-')}", "0")), *flags,
        ]  # fmt: skip
        self._sessions: list[int] = []
        self._process: trio.Process | None = None
        self._stopping = trio.Event()

    @property
    def main(self) -> int:
        """The id of the node's main process."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[int]:
        """All that have not ended, by their session: that stays when the supervisor is dead."""
        return [number for number, fields in all_running() if int(fields[SESSION]) in self._sessions]

    def workers(self) -> list[int]:
        """The workers: children of the supervisor, or the only process."""
        if self._workers == 1:
            return [self.main]
        return [number for number, fields in all_running() if int(fields[PARENT]) == self.main]

    def send(self, number: signal.Signals, *processes: int) -> None:
        """Send a signal to those of these processes that still run."""
        if self.main in processes and number in (signal.SIGKILL, signal.SIGTERM):
            self.may_end = True
        for process in set(processes).intersection(self.processes()):
            os.kill(process, number)

    async def run(self) -> None:
        """Serve until `stop`, and start again whatever ends.

        A node that does not start is tried again: its database is away, or a trouble has ended its first worker.
        """
        while not self._stopping.is_set():
            code = await self._live()
            has_served = self.up.is_set()
            if has_served:  # otherwise the event stays for those that wait for it already
                self.up = trio.Event()
            if self._stopping.is_set():
                break
            if has_served and not self.may_end:
                raise Violation(f"{self.name} ended by itself with {code}; see {self.errors}")
            await trio.sleep(RESTART_PAUSE)

    async def _live(self) -> int:
        """Start it and wait for its end; the exit code."""
        self.may_end = False
        with self.errors.open("a") as errors:
            self._process = process = await trio.lowlevel.open_process(
                [str(Path(sys.executable).with_name("chatserver")), *self._flags], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors, cwd=self._folder, start_new_session=True,
                env={**os.environ, "TMPDIR": HERE},
            )  # fmt: skip
        self._sessions.append(process.pid)
        assert process.stdout is not None
        try:
            async with process.stdout:
                with trio.fail_after(START_PATIENCE):
                    said = await process.stdout.receive_some()
                if said:
                    self.starts += 1
                    self.up.set()
                return await process.wait()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

    async def stop(self) -> None:
        """Drain it. Raises Violation if it takes too long or leaves processes."""
        self._stopping.set()
        process = self._process
        assert process is not None
        self.send(signal.SIGTERM, self.main)
        with trio.move_on_after(END_PATIENCE):
            await process.wait()
        if process.returncode != EXIT_CLEAN:
            raise Violation(f"{self.name} ended with {process.returncode} when it was told to; see {self.errors}")
        try:
            await eventually(lambda: not self.processes(), within=END_PATIENCE)
        except trio.TooSlowError:
            raise Violation(f"{self.name} has ended, and its processes {self.processes()} have not") from None

    def faults(self) -> list[str]:
        """Unexpected errors in its log, and lines that are not of a log."""
        with self.errors.open() as lines:
            return [line for line in lines if not line.startswith(COMPLAINT) and _is_fault(line)]

    async def kill(self) -> None:
        """Kill all its processes, and wait until they have ended."""
        self._stopping.set()

        def is_gone() -> bool:
            left = self.processes()
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return not left

        await eventually(is_gone, within=END_PATIENCE)


def _is_fault(line: str) -> bool:
    if not line.startswith("{"):
        return True
    told = json.loads(line)
    is_expected = any(words in told["event"] for words in EXPECTED_ERRORS)
    return told["level"] in ("error", "critical") and not is_expected
