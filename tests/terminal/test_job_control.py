"""`chatserver chat` as a job of a shell, which stops and continues it."""

import os
import pty
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.client.fake import FakeServer
from tests.support.serving import eventually
from tests.terminal.commanded import SOON, Terminal, texts


@asynccontextmanager
async def shell(folder: Path) -> AsyncIterator[Terminal]:
    """A shell with job control, in a terminal."""
    ours, theirs = pty.openpty()
    process = await trio.lowlevel.open_process(
        ["setsid", "--ctty", "sh", "-i"], stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT, cwd=folder,
        env={**os.environ, "TERM": "xterm", "ENV": "", "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    try:
        yield Terminal(process, ours)
    finally:
        process.terminate()  # ignored, but an end of its terminal is not
        os.close(theirs)
        os.close(ours)
        with trio.fail_after(SOON):
            await process.wait()


async def test_a_client_that_was_continued_in_the_background_comes_back(server: FakeServer, tmp_path: Path) -> None:
    """In the background the kernel stops it when it takes the terminal. `fg` then interrupted that call.

    The client ended with a traceback, and left a terminal without echo.
    """
    async with shell(tmp_path) as person:
        person.type(f"{shlex.quote(sys.executable)} -m chatserver chat {server.url}\r")
        await person.until("in lobby, 1 here")
        person.type("\x1a")
        await person.until("Stopped")
        person.type("bg; until jobs >jobs; grep -q Stopped jobs; do sleep 0.1; done; fg\r")
        await person.until("\x1b[?1004h")
        await person.enter("I am back", ": I am back")
        assert texts(server) == ["I am back"]
        person.type("\x04")
        await person.until("\x1b[?1004l")


async def test_a_client_in_the_background_leaves_the_input_to_the_shell(server: FakeServer, tmp_path: Path) -> None:
    """It read what was typed for the shell, for which the kernel stopped it."""
    written = tmp_path / "written"
    async with shell(tmp_path) as person:
        person.type(f"{shlex.quote(sys.executable)} -m chatserver chat {server.url} --json >written &\r")
        await eventually(lambda: written.exists() and "entered" in written.read_text())
        for number in range(5):
            await person.enter(f"echo $(({number} + 10))", f"{number + 10}\r\n")
        await server.say("news")
        await eventually(lambda: "news" in written.read_text())
        person.type("kill %1\r")
        await eventually(lambda: not server.connections)
