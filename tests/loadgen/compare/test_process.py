"""A server's process: it answers, or the reason is reported; and nothing of it is left, however its user ended."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from loadgen.compare import process
from loadgen.compare.process import DiedError, running
from tests.loadgen.stage import until
from tests.support.ports import steady_port
from tests.support.running import is_running

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "


def python(code: str) -> Callable[[Path, int], list[str]]:
    return lambda work, port: [sys.executable, "-c", code, str(port), str(work)]


@pytest.mark.parametrize("ends", ["well", "with an error", "cancelled"])
async def test_it_answers_and_is_gone_however_its_user_ends(ends: str) -> None:
    folders = []

    def command(work: Path, port: int) -> list[str]:
        folders.append(work)
        return python(LISTEN + "time.sleep(600)")(work, port)

    with trio.CancelScope() as scope, suppress(ZeroDivisionError):
        async with running(command) as server:
            await (await trio.open_tcp_stream("127.0.0.1", server.port)).aclose()
            server.require()
            if ends == "with an error":
                raise ZeroDivisionError
            if ends == "cancelled":
                scope.cancel()
                await trio.sleep_forever()
    assert not is_running(server.pid)
    assert not await trio.Path(folders[0]).exists(), "its folder goes with it"


async def test_it_is_waited_for_where_it_was_told_to_listen() -> None:
    """It was at 127.0.0.1 alone: "did not answer in 20 s"."""
    host = "::1"
    code = LISTEN.replace("('127.0.0.1', int(sys.argv[1]))", f"({host!r}, int(sys.argv[1])), family=socket.AF_INET6")
    async with running(python(code + "time.sleep(600)"), host=host, port=steady_port()) as server:
        await (await trio.open_tcp_stream(host, server.port)).aclose()


def test_its_port_is_none_that_the_system_gives_to_others() -> None:
    """It was: until the server listened, another process got it, and answered in its place."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text().split()[0]) if given.exists() else 49_152
    for _ in range(100):
        assert process._free_port() < first


@pytest.mark.parametrize("leader", ["time.sleep(600)", "s.accept(); sys.exit(3)"], ids=["that-lives", "that-died"])
async def test_its_children_are_gone_too(leader: str, tmp_path: Path) -> None:
    """nginx's workers, for instance; also when the leader has gone before them."""
    told = tmp_path / "child"
    code = f"""import os; {LISTEN}
if not os.fork():
    open({str(told)!r}, 'w').write(str(os.getpid()) + chr(10))
    time.sleep(600)
while not os.path.exists({str(told)!r}): time.sleep(0.01)
{leader}"""
    async with running(python(code)):
        await until(lambda: told.exists() and told.read_text().endswith("\n"))
    await until(lambda: not is_running(int(told.read_text())))  # the process that adopted it has to reap it


@pytest.mark.parametrize(
    ("code", "seconds", "why"),
    [
        ("import sys; print('no such port'); sys.exit(2)", 20.0, "ended with exit code 2: no such port"),
        ("import time; time.sleep(600)", 0.2, r"did not answer in 0\.2 s"),
    ],
)
async def test_one_that_does_not_answer_says_why(
    code: str, seconds: float, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_SECONDS", seconds)
    with pytest.raises(DiedError, match=why):
        async with running(python(code)):
            pytest.fail("it never answered")


async def test_one_that_dies_is_noticed() -> None:
    async with running(python(LISTEN + "s.accept(); s.accept(); __import__('os').kill(0, 9)")) as server:
        await (await trio.open_tcp_stream("127.0.0.1", server.port)).aclose()
        await until(lambda: not is_running(server.pid))
        with pytest.raises(DiedError, match="ended with SIGKILL"):
            server.require()
