"""`chatserver serve` as a process: what it prints, where it listens, how it ends."""

import json
import re
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver import cli
from chatserver.server import Server
from chatserver.settings.fields import Settings
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


async def stop(server: ServerProcess, number: signal.Signals = signal.SIGTERM) -> int:
    server.process.send_signal(number)
    return await server.ended()


async def test_one_line_and_a_clean_end(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path)) as server:
        assert LINE.fullmatch(server.lines[0])
        assert (await ask(server.address, "GET", "/readyz")).status == 200
        assert await stop(server, signal.SIGINT) == 0
        assert server.process.stdout is not None
        assert await server.process.stdout.receive_some() == b"", "one line, and no more"
        for line in server.errors.splitlines():
            assert json.loads(line)["level"] == "info", "no terminal here: JSON"


async def test_several_hosts(tmp_path: Path) -> None:
    hosts = ["127.0.0.1", "127.0.0.2", *["[::1]"] * has_ipv6()]
    flags = [word for host in hosts for word in ("--host", host)]
    async with server_process(tmp_path, *free_flags(tmp_path, *flags), lines=len(hosts)) as server:
        assert all(LINE.fullmatch(line) for line in server.lines)
        addresses = [Address.of(line.removeprefix("listening on ")) for line in server.lines]
        assert [address.host for address in addresses] == [host.strip("[]") for host in hosts]
        await publish(addresses[0], "lobby", "hi")
        async with chatter(addresses[-1]) as friend:
            assert (await friend.ask("join", room="lobby", after=0))["messages"][0]["text"] == "hi"
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
        ("--trusted-proxy", "10.0.0.0/33"),
        ("--proxy-protocol",),
        ("--tls-cert", "server.pem"),
        ("--tls-key", "server.key"),
        ("--frobnicate",),
    ],
    ids=" ".join,
)
def test_bad_flags_are_exit_code_2_and_one_line_that_names_them(
    flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command(["serve", *flags]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert flags[0] in shown.err


async def refused(capsys: pytest.CaptureFixture[str], **settings: Any) -> tuple[int, str]:
    """The exit code of a server that cannot start, and the one line that says why."""
    options: dict[str, Any] = {"port": 0, "log": "memory:", **settings}
    code = await Server(Settings(**options), total=10).main()
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    return code, shown.err


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no.such.host.invalid", "x" * 64])
async def test_an_address_that_cannot_be_had_is_exit_code_3(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first is ours, and its port is taken. The listener for metrics is named by its flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = await refused(capsys, host=(host,), port=port)
        assert (code, f"cannot listen on {host} port {port}: " in line) == (3, True)
        if len(host) < 64:
            code, line = await refused(capsys, metrics_listen=f"{host}:{port}")
            assert (code, f"--metrics-listen: cannot listen on {host} port {port}: " in line) == (3, True)


@pytest.mark.parametrize("what", ["no folder", "a folder", "another program's", "no database"])
async def test_a_log_that_cannot_be_opened_is_exit_code_4(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    if what == "no folder":
        path = tmp_path / "nowhere" / "chat.db"
    elif what == "a folder":
        path.mkdir()
    elif what == "another program's":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE recipes (name TEXT)")
    else:
        path.write_bytes(b"this is a letter to my aunt " * 200)
    code, line = await refused(capsys, log=f"sqlite:{path}")
    assert (code, str(path) in line) == (4, True)


async def test_exit_codes_and_lines_are_the_process_s_own(tmp_path: Path) -> None:
    """A port and a log that another server has: offsets are given out by one writer, which does not notice."""
    async with server_process(tmp_path, *free_flags(tmp_path)) as server:
        port = str(server.address.port)
        for code, flags in (
            (2, ("--port", "http")),
            (3, ("--port", port, "--log", "memory:")),
            (4, free_flags(tmp_path)),
        ):
            folder = tmp_path / str(code)
            folder.mkdir()
            async with server_process(folder, *flags) as failing:
                assert await failing.ended() == code
                assert (failing.lines, failing.errors.count("\n")) == ([], 1)
        await publish(server.address, "lobby", "hi")
        assert await stop(server) == 0


async def test_metrics_have_no_line_of_their_own(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path, "--metrics-listen", "127.0.0.1:0")) as server:
        assert LINE.fullmatch(server.lines[0])
        assert (await ask(server.address, "GET", "/metrics")).status == 404

        await eventually(lambda: "metrics_listening" in server.errors)
        [line] = [json.loads(each) for each in server.errors.splitlines() if "metrics_listening" in each]
        metrics = await ask(Address.of(line["address"]), "GET", "/metrics")
        assert b"chatserver_connections" in metrics.body


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    flags = free_flags(tmp_path, "--close-deadline", "600", "--drain-timeout", "600")
    async with server_process(tmp_path, *flags) as server, chatter(server.address) as stubborn:
        server.process.terminate()
        assert (await stubborn.next("goaway"))["reason"] == "restart"
        assert await stop(server) == 0


async def test_the_same_port_again_at_once_and_quietly(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path, "--quiet")) as server:
        port = server.address.port
        async with chatter(server.address) as friend:
            await friend.ask("join", room="lobby")
            server.process.kill()
            await server.process.wait()
            with trio.move_on_after(1):
                await friend.peer.rest()
    async with server_process(tmp_path, *free_flags(tmp_path, "--quiet", port=port)) as server:
        assert server.address.port == port
        async with connect(server.address) as peer:
            await peer.send(b"\0")
            assert (await peer.response()).status == 400
        assert await stop(server) == 0
        assert server.errors == ""
