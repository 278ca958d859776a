"""A server's life: it answers, or it is said why not; and nothing of it is left, however its user ended."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from loadgen.compare import process
from loadgen.compare.process import DiedError, running

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "


def python(code: str) -> Callable[[Path, int], list[str]]:
    return lambda work, port: [sys.executable, "-c", code, str(port), str(work)]


def is_there(pid: int) -> bool:
    """Whether a process runs; a zombie that is not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_it_answers_and_is_gone_afterwards() -> None:
    async with running(python(LISTEN + "time.sleep(600)")) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.aclose()
        server.require()
        pid = server.pid
    assert not is_there(pid)


async def test_it_is_gone_when_its_user_fails_or_is_cancelled() -> None:
    pids = []

    async def fail() -> None:
        async with running(python(LISTEN + "time.sleep(600)")) as server:
            pids.append(server.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    with trio.CancelScope() as scope:
        async with running(python(LISTEN + "time.sleep(600)")) as server:
            pids.append(server.pid)
            scope.cancel()
            await trio.sleep_forever()
    assert not any(map(is_there, pids))


@pytest.mark.parametrize("leader", ["time.sleep(600)", "s.accept(); sys.exit(3)"], ids=["that-lives", "that-died"])
async def test_its_children_are_gone_too(leader: str, tmp_path: Path) -> None:
    """nginx's workers, for instance; also when the leader has gone before them."""
    told = tmp_path / "child"
    code = (
        "import os\n"
        f"{LISTEN}\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        f"    open({str(told)!r}, 'w').write(str(os.getpid()) + '\\n')\n"
        "    time.sleep(600)\n"
        f"while not os.path.exists({str(told)!r}): time.sleep(0.01)\n"
        f"{leader}"
    )
    async with running(python(code)):
        while not (told.exists() and told.read_text().endswith("\n")):  # noqa: ASYNC110
            await trio.sleep(0.01)
    child = int(told.read_text())
    with trio.fail_after(30):  # the process that adopted it has to reap it
        while is_there(child):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_one_that_does_not_start_says_why() -> None:
    with pytest.raises(DiedError, match=r"ended with exit code 2: no such port"):
        async with running(python("import sys; print('no such port'); sys.exit(2)")):
            pytest.fail("it never answered")


async def test_one_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.2)
    with pytest.raises(DiedError, match=r"did not answer in 0\.2 s"):
        async with running(python("import time; time.sleep(600)")):
            pytest.fail("it never answered")


async def test_one_that_dies_is_noticed() -> None:
    async with running(
        python(LISTEN + "s.accept(); s.accept(); os_kill = __import__('os').kill; os_kill(0, 9)")
    ) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.aclose()
        with trio.fail_after(30):
            while is_there(server.pid):  # noqa: ASYNC110
                await trio.sleep(0.01)
        with pytest.raises(DiedError, match="ended with SIGKILL"):
            server.require()


async def test_its_folder_is_its_own_and_goes_with_it() -> None:
    folders = []

    def command(work: Path, port: int) -> list[str]:
        folders.append(work)
        return python(LISTEN + "open('here', 'w').close(); time.sleep(600)")(work, port)

    async with running(command):
        assert os.path.isdir(folders[0])  # noqa: ASYNC240, PTH112
    assert not os.path.exists(folders[0])  # noqa: ASYNC240, PTH110


async def test_posting() -> None:
    code = (
        "import http.server, sys\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        body = self.rfile.read(int(self.headers['Content-Length']))\n"
        "        open('got', 'w').write(self.path + ' ' + body.decode())\n"
        "        self.send_response(404 if self.path == '/nowhere' else 201)\n"
        "        self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()"
    )
    folders = []

    def command(work: Path, port: int) -> list[str]:
        folders.append(work)
        return python(code)(work, port)

    async with running(command) as server:
        await trio.to_thread.run_sync(server.post, "/publish", b'{"a":1}')
        assert (folders[0] / "got").read_text() == '/publish {"a":1}'
        with pytest.raises(DiedError, match="POST /nowhere was answered 404"):
            await trio.to_thread.run_sync(server.post, "/nowhere", b"")
