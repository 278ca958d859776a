"""`chatserver serve` as a process: what it prints, where it listens, how it ends."""

import json
import os
import re
import signal
import socket
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio

from chatserver.log.memory import MemoryLog
from chatserver.server import Server
from chatserver.settings.fields import Settings
from tests.support.certificates import certificate, trusting
from tests.support.peers import Address, ask, chatter, connect, publish
from tests.support.serving import (
    LIFE,
    ServerProcess,
    eventually,
    free_flags,
    sample,
    server_process,
    serving,
    until,
)

#: What a server measures of itself from its start.
MEASURED = ("loop_pass", "loop_lag", "gc")
#: More than a guard page of any system, less than a heap.
GUARD_BYTES = 1024 * 1024
LINE = re.compile(r"listening on http://(\[::1\]|127\.0\.0\.\d):(\d+)")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def heaps_of_threads(process: int) -> list[str]:
    """What a process has reserved for heaps: the unused rest of 64 MiB each. A page that guards a stack is smaller."""
    maps = Path(f"/proc/{process}/maps")
    if not maps.exists():
        return []
    reserved = re.findall(r"^(\w+)-(\w+) ---p 0+ 00:00 0 *$", maps.read_text(), re.MULTILINE)
    return [start for start, end in reserved if int(end, 16) - int(start, 16) > GUARD_BYTES]


async def stop(server: ServerProcess, number: signal.Signals = signal.SIGTERM) -> int:
    server.process.send_signal(number)
    return await server.ended()


async def test_a_line_for_each_host_none_for_metrics_and_a_clean_end(tmp_path: Path) -> None:
    hosts = ["127.0.0.1", "127.0.0.2", *["[::1]"] * has_ipv6()]
    flags = [word for host in hosts for word in ("--host", host)]
    flags += ["--metrics-listen", "127.0.0.1:0"]
    async with server_process(tmp_path, *free_flags(tmp_path, *flags), lines=len(hosts)) as server:
        assert all(LINE.fullmatch(line) for line in server.lines)
        addresses = [Address.of(line.removeprefix("listening on ")) for line in server.lines]
        assert [address.host for address in addresses] == [host.strip("[]") for host in hosts]
        await publish(addresses[0], "lobby", "hi")
        async with chatter(addresses[-1]) as friend:
            assert (await friend.ask("join", room="lobby", after=0))["messages"][0]["text"] == "hi"
        assert (await ask(server.address, "GET", "/metrics")).status == 404

        await eventually(lambda: "metrics_listening" in server.errors)
        [line] = [json.loads(each) for each in server.errors.splitlines() if "metrics_listening" in each]
        operators = Address.of(line["address"])
        await until(
            partial(ask, operators, "GET", "/metrics"),
            lambda answer: all(sample(answer.body, f"chatserver_{what}_seconds_count") for what in MEASURED),
        )
        assert heaps_of_threads(server.process.pid) == [], "with one each, the log's threads keep 6 MB that none uses"
        assert await stop(server, signal.SIGINT) == 0
        assert server.process.stdout is not None
        assert await server.process.stdout.receive_some() == b"", "no further line"
        for written in server.errors.splitlines():
            assert json.loads(written)["level"] == "info", "no terminal here: JSON"


async def refused(capsys: pytest.CaptureFixture[str], **settings: Any) -> tuple[int, str]:
    """The exit code of a server that cannot start, and the one line that says why."""
    options: dict[str, Any] = {"port": 0, "log": "memory:", **settings}
    code = await Server(Settings(**options), total=10).main()
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    return code, shown.err


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", "Address already in use; stop the program"),
        ("192.0.2.1", "Cannot assign requested address; choose an address of this machine"),
        ("no.such.host.invalid", ""),
        ("x" * 64, ""),
    ],
)
async def test_an_unusable_address_is_exit_code_3(host: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first address is local with a port in use. The listener for metrics is named by its flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = await refused(capsys, host=(host,), port=port)
        assert (code, f"cannot listen on {host} port {port}: {why}" in line) == (3, True), line
        if len(host) < 64:
            code, line = await refused(capsys, metrics_listen=f"{host}:{port}")
            assert (code, f"--metrics-listen: cannot listen on {host} port {port}: {why}" in line) == (3, True), line


async def test_an_unknown_host_gets_a_hint_that_it_is_no_url(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = mock.Mock(side_effect=socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    code, line = await refused(capsys, host=("http://127.0.0.1",))
    assert (code, line.rpartition("; ")[2]) == (3, "a host is a name or an address, without scheme and port\n")


async def test_exit_codes_and_error_lines(tmp_path: Path) -> None:
    """A key of another certificate; a port and a log in use by another server."""
    (cert, _), (_, key) = certificate(tmp_path), certificate(tmp_path, "other")
    async with server_process(tmp_path, *free_flags(tmp_path), is_forked=True) as server:
        for code, flag, flags in (
            (2, "--tls-key", ("--port", "0", "--log", "memory:", "--tls-cert", cert, "--tls-key", key)),
            (3, "port", ("--port", str(server.address.port), "--log", "memory:")),
            (4, "--log", free_flags(tmp_path)),
        ):
            folder = tmp_path / str(code)
            folder.mkdir()
            async with server_process(folder, *flags, is_forked=True) as failing:
                assert await failing.ended() == code
                assert failing.lines == []
                [line] = failing.errors.splitlines()
                assert line.startswith("chatserver: ")
                assert flag in line
        await publish(server.address, "lobby", "hi")
        assert await stop(server) == 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """The peer answers no close frame."""
    flags = free_flags(tmp_path, "--close-deadline", "600", "--drain-timeout", "600")
    async with server_process(tmp_path, *flags, is_forked=True) as server, chatter(server.address) as stubborn:
        server.process.terminate()
        assert (await stubborn.next("goaway"))["reason"] == "restart"
        assert await stop(server, signal.SIGINT) == 0


async def test_a_server_ends_with_its_terminal(tmp_path: Path) -> None:
    """After its window was closed it went on, unseen, and the next start found its port in use."""
    ours, theirs = os.openpty()
    serve = [sys.executable, "-m", "chatserver", "serve", *free_flags(tmp_path)]
    process = await trio.lowlevel.open_process(["setsid", "--ctty", *serve], stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        os.close(theirs)
        shown = b""
        with trio.fail_after(LIFE):
            while b"listening on" not in shown:
                await trio.lowlevel.wait_readable(ours)
                shown += os.read(ours, 4096)
            os.close(ours)
            assert await process.wait() == 0
    finally:
        process.kill()


async def serial(address: Address) -> str:
    """The serial number of the certificate for new connections."""
    async with connect(address) as peer:
        assert isinstance(peer.stream, trio.SSLStream)
        shown = peer.stream.getpeercert()
    return str(shown["serialNumber"])


async def test_the_line_says_https_and_a_hangup_loads_the_new_certificate(tmp_path: Path) -> None:
    """With a malformed file the old one stays, and open connections notice nothing."""
    cert, key = certificate(tmp_path)
    flags = free_flags(tmp_path, "--tls-cert", cert, "--tls-key", key)
    async with server_process(tmp_path, *flags, is_forked=True) as server, chatter(server.address) as friend:
        assert server.lines[0].startswith("listening on https://127.0.0.1:")
        url = server.lines[0].removeprefix("listening on ") + "/healthz"

        def fetch() -> bytes:  # by an independent client
            with urllib.request.urlopen(url, context=trusting()) as answer:
                body: bytes = answer.read()
                return body

        assert b"ok" in await trio.to_thread.run_sync(fetch)
        first = await serial(server.address)
        certificate(tmp_path)  # replaces the old one
        server.process.send_signal(signal.SIGHUP)

        async def changed() -> bool:
            return await serial(server.address) != first

        await eventually(changed)
        second = await serial(server.address)
        await eventually(lambda: "certificate_reloaded" in server.errors)  # may be later than the certificate
        (tmp_path / "server.pem").write_text("half a certi")
        server.process.send_signal(signal.SIGHUP)
        await eventually(lambda: "certificate_not_reloaded" in server.errors)
        assert "--tls-cert" in server.errors
        assert await serial(server.address) == second
        assert (await friend.ask("ping"))["type"] == "pong"
        await friend.close()
        assert await stop(server) == 0


async def test_a_hangup_while_the_log_opens_has_an_effect(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    log = MemoryLog()
    opened = log.run

    async def open_slowly(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGHUP)  # the certificate is renewed
        await opened(*arguments, **options)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as the command does
    try:
        with mock.patch.object(log, "run", open_slowly):
            async with serving(engine=log, tls_cert=cert, tls_key=key) as server:
                await eventually(lambda: "certificate_reloaded" in [line["event"] for line in server.logs])
    finally:
        signal.signal(signal.SIGHUP, before)
