"""`chatserver chat` as a process, with pipes or in a pseudo-terminal."""

import os
import pty
import subprocess
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from tests.client.fake import FakeServer
from tests.support.forking import Running, run

SOON = 60.0  # s; never reached unless something is broken
#: What the command imports when it runs.
NEEDS = ("chatserver.terminal.modes",)


async def start(server: FakeServer, *flags: str, place: str = "") -> Running:
    return await run("chatserver.cli", "chat", server.url + place, *flags, stdin=subprocess.PIPE, needs=NEEDS)


async def chat(server: FakeServer, typed: bytes, *flags: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command with this input. Returns its output and exit code."""
    said = {"stdout": b"", "stderr": b""}

    async def read(name: str, stream: trio.lowlevel.FdStream) -> None:
        async for chunk in stream:
            said[name] += chunk

    with trio.fail_after(SOON):
        process = await start(server, *flags)
        assert process.stdin is not None
        try:
            async with trio.open_nursery() as nursery:
                for name in said:
                    nursery.start_soon(read, name, getattr(process, name))
                with suppress(trio.BrokenResourceError):  # it ended before it had read all input
                    await process.stdin.send_all(typed)
                if server.refuses_after is not None:
                    server.refuses_after.set()
                await process.stdin.aclose()
            return subprocess.CompletedProcess((), await process.wait(), **said)
        finally:
            process.kill()


def texts(server: FakeServer) -> list[str]:
    return [message["text"] for message in server.log]


class Terminal:
    """A pseudo-terminal that runs `chatserver chat`."""

    def __init__(self, process: Running | trio.Process, descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    async def until(self, text: str) -> str:
        """Wait for the next occurrence of a text. Returns the output before it."""
        with trio.fail_after(SOON):
            while text not in self._shown:
                await trio.lowlevel.wait_readable(self._descriptor)
                self._shown += os.read(self._descriptor, 65_536).decode("utf-8", "replace")
        before, _, self._shown = self._shown.partition(text)
        return before

    async def enter(self, line: str, text: str) -> None:
        """Type a line and wait for a text."""
        self.type(f"{line}\r")
        await self.until(text)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)


@asynccontextmanager
async def terminal(
    server: FakeServer, *flags: str, code: int = 0, term: str = "xterm", until: str = "in lobby, 1 here"
) -> AsyncIterator[Terminal]:  # fmt: skip
    """A person in the room, who leaves at the end. Whatever the exit code, the command must restore the terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "80", "LINES": "24", "TZ": "XXX-3:17"}
    process = await run(
        "chatserver.cli", "chat", server.url, *flags, stdin=theirs, stdout=theirs, stderr=theirs, needs=NEEDS,
        environment=environment,
    )  # fmt: skip
    person = Terminal(process, ours)
    try:
        await person.until(until)
        # one that ends by itself may have restored the terminal by now
        assert code or person.echoes() == (term == "dumb")
        yield person
        if not code:
            person.type("\x15\x04")
        with trio.fail_after(SOON):
            assert await process.wait() == code
        assert person.echoes()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        os.close(theirs)
        os.close(ours)
