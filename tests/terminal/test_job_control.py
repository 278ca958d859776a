"""`chatserver chat` as a job of a shell, which stops and continues it."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import trio

from tests.client.fake import FakeServer
from tests.terminal.commanded import SOON, Terminal, texts


async def test_a_client_that_was_continued_in_the_background_comes_back(server: FakeServer, tmp_path: Path) -> None:
    """In the background the kernel stops it when it takes the terminal. `fg` then interrupted that call.

    The client ended with a traceback, and left a terminal without echo.
    """
    ours, theirs = pty.openpty()
    shell = await trio.lowlevel.open_process(
        ["setsid", "--ctty", "sh", "-i"], stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT, cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "ENV": "", "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    person = Terminal(shell, ours)
    try:
        person.type(f"{sys.executable} -m chatserver chat {server.url}\r")
        await person.until("in lobby, 1 here")
        person.type("\x1a")
        await person.until("Stopped")
        person.type("bg; until jobs >jobs; grep -q Stopped jobs; do sleep 0.1; done; fg\r")
        await person.until("\x1b[?1004h")
        await person.enter("I am back", ": I am back")
        assert texts(server) == ["I am back"]
        person.type("\x04")
        await person.until("\x1b[?1004l")
        person.type("exit\r")
        with trio.fail_after(SOON):
            await shell.wait()
    finally:
        shell.kill()
        await shell.wait()
        os.close(theirs)
        os.close(ours)
