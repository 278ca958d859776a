"""`chatserver serve` as a process: what it prints, where it listens, how it ends."""

import json
import re
import signal
import socket
import sqlite3
from pathlib import Path

import pytest
import trio

from tests.support.peers import Address, ask, chatter, connect, publish
from tests.support.serving import ServerProcess, eventually, free_flags, server_process

LINE = re.compile(r"listening on http://(\[::1\]|127\.0\.0\.\d):(\d+)")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")


async def stop(server: ServerProcess, number: signal.Signals = signal.SIGTERM) -> int:
    server.process.send_signal(number)
    return await server.ended()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_line_and_a_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path)) as server:
        assert LINE.fullmatch(server.lines[0])
        assert (await ask(server.address, "GET", "/readyz")).status == 200
        assert await stop(server, number) == 0
        assert server.process.stdout is not None
        assert await server.process.stdout.receive_some() == b"", "one line, and no more"
        for line in server.errors.splitlines():
            assert json.loads(line)["level"] == "info", "no terminal here: JSON"


async def test_quiet(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path, "--quiet")) as server:
        async with connect(server.address) as peer:
            await peer.send(b"\0")
            assert (await peer.response()).status == 400
        assert await stop(server) == 0
        assert server.errors == ""


async def test_several_hosts(tmp_path: Path) -> None:
    hosts = ("--host", "127.0.0.1", "--host", "127.0.0.2")
    async with server_process(tmp_path, *free_flags(tmp_path, *hosts), lines=2) as server:
        assert all(LINE.fullmatch(line) for line in server.lines)
        first, second = (Address.of(line.removeprefix("listening on ")) for line in server.lines)
        assert (first.host, second.host) == ("127.0.0.1", "127.0.0.2")
        await publish(first, "lobby", "hi")
        assert (await ask(second, "GET", "/rooms/lobby/messages")).json["messages"][0]["text"] == "hi"
        assert await stop(server) == 0


@needs_ipv6
@pytest.mark.parametrize("host", ["[::1]", "::1"])
async def test_ipv6(tmp_path: Path, host: str) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path, "--host", host)) as server:
        assert server.lines[0].startswith("listening on http://[::1]:")
        async with chatter(server.address) as friend:
            assert (await friend.ask("publish", room="lobby", text="hi"))["type"] == "ack"
        assert await stop(server) == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("--port", "70000"),
        ("--port", "http"),
        ("--head-deadline", "0"),
        ("--max-body-bytes", "-1"),
        ("--log", "carrier-pigeon:"),
        ("--log-format", "xml"),
        ("--config", "nowhere.toml"),
        ("--metrics-listen", "9100"),
        ("--metrics-listen", "::1:9100"),
        ("--allow-host", "https://chat.example"),
        ("--allow-origin", "null"),
    ],
)
async def test_bad_flags_are_exit_code_2_and_one_line_that_names_it(tmp_path: Path, flags: tuple[str, str]) -> None:
    async with server_process(tmp_path, *flags) as server:
        assert await server.ended() == 2
        assert server.lines == []
        assert server.errors.count("\n") == 1
        assert flags[0] in server.errors
        assert "Traceback" not in server.errors


async def test_an_unknown_flag(tmp_path: Path) -> None:
    async with server_process(tmp_path, "--frobnicate") as server:
        assert await server.ended() == 2
        assert "--frobnicate" in server.errors
        assert server.errors.count("\n") == 1


async def test_a_taken_port_is_exit_code_3(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with server_process(tmp_path, *free_flags(tmp_path, port=port)) as server:
            assert await server.ended() == 3
            assert server.lines == []
            assert server.errors.count("\n") == 1
            assert str(port) in server.errors
            assert "127.0.0.1" in server.errors


@pytest.mark.parametrize("where", ["taken", "192.0.2.1:0", "no.such.host.invalid:0"])
async def test_metrics_that_cannot_be_listened_for_are_exit_code_3(tmp_path: Path, where: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = where.replace("taken", f"127.0.0.1:{taken.getsockname()[1]}")
        async with server_process(tmp_path, *free_flags(tmp_path, "--metrics-listen", where)) as server:
            assert await server.ended() == 3
            assert server.lines == []
            assert server.errors.count("\n") == 1
            host, _, port = where.rpartition(":")
            assert f"--metrics-listen: cannot listen on {host} port {port}: " in server.errors


async def test_metrics_have_no_line_of_their_own(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path, "--metrics-listen", "127.0.0.1:0")) as server:
        assert LINE.fullmatch(server.lines[0])
        assert (await ask(server.address, "GET", "/metrics")).status == 404

        async def logged() -> bool:
            return "metrics_listening" in server.errors

        await eventually(logged)
        [line] = [json.loads(each) for each in server.errors.splitlines() if "metrics_listening" in each]
        metrics = await ask(Address.of(line["address"]), "GET", "/metrics")
        assert b"chatserver_connections" in metrics.body
        assert await stop(server) == 0
        assert server.process.stdout is not None
        assert await server.process.stdout.receive_some() == b"", "one line, and no more"


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 64])
async def test_an_address_that_is_not_ours_is_exit_code_3(tmp_path: Path, host: str) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path, "--host", "127.0.0.1", "--host", host)) as server:
        assert await server.ended() == 3
        assert server.lines == []
        assert server.errors.count("\n") == 1


@pytest.mark.parametrize("what", ["no folder", "a folder", "another program's", "no database"])
async def test_a_log_that_cannot_be_opened_is_exit_code_4(tmp_path: Path, what: str) -> None:
    path = tmp_path / "log"
    if what == "no folder":
        path = tmp_path / "nowhere" / "chat.db"
    elif what == "a folder":
        path.mkdir()
    elif what == "another program's":
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE recipes (name TEXT)")
        database.commit()
        database.close()
    else:
        path.write_bytes(b"this is a letter to my aunt " * 200)
    async with server_process(tmp_path, "--port", "0", "--log", f"sqlite:{path}") as server:
        assert await server.ended() == 4
        assert server.lines == []
        assert "Traceback" not in server.errors
        assert server.errors.count("\n") == 1
        assert str(path) in server.errors


async def test_two_servers_on_one_log(tmp_path: Path) -> None:
    """Offsets are given out by one writer: the second is refused, and the first does not notice."""
    async with server_process(tmp_path, *free_flags(tmp_path)) as server:
        async with server_process(tmp_path, *free_flags(tmp_path)) as second:
            assert await second.ended() == 4
        await publish(server.address, "lobby", "hi")
        assert await stop(server) == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    flags = free_flags(tmp_path, "--close-deadline", "600", "--drain-timeout", "600")
    async with server_process(tmp_path, *flags) as server, chatter(server.address) as stubborn:
        server.process.terminate()
        assert (await stubborn.next("goaway"))["reason"] == "restart"
        assert await stop(server) == 0


async def test_the_same_port_again_at_once(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path)) as server:
        port = server.address.port
        async with chatter(server.address) as friend:
            await friend.ask("join", room="lobby")
            server.process.kill()
            await server.process.wait()
            with trio.move_on_after(1):
                await friend.peer.rest()
    async with server_process(tmp_path, *free_flags(tmp_path, port=port)) as server:
        assert server.address.port == port
        assert await stop(server) == 0
