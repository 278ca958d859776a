"""TLS as an operator meets it: flags, the line that is printed, a certificate that is replaced while it serves."""

import urllib.request
from pathlib import Path
from signal import SIGHUP, SIGTERM

import pytest
import trio

from tests.support.certificates import certificate, trusting
from tests.support.peers import Address, ask, chatter, connect
from tests.support.serving import ServerProcess, eventually, free_flags, server_process


def tls_flags(folder: Path) -> tuple[str, ...]:
    cert, key = certificate(folder)
    return (*free_flags(folder), "--tls-cert", cert, "--tls-key", key)


async def serial(address: Address) -> str:
    """Of the certificate that a newcomer is shown."""
    async with connect(address) as peer:
        assert isinstance(peer.stream, trio.SSLStream)
        shown = peer.stream.getpeercert()
    return str(shown["serialNumber"])


async def test_the_line_says_https_and_the_end_is_clean(tmp_path: Path) -> None:
    async with server_process(tmp_path, *tls_flags(tmp_path)) as server:
        assert server.lines[0].startswith("listening on https://127.0.0.1:")
        url = server.lines[0].removeprefix("listening on ") + "/healthz"

        def fetch() -> bytes:  # by a client that is nobody's
            with urllib.request.urlopen(url, context=trusting()) as answer:
                body: bytes = answer.read()
                return body

        assert b"ok" in await trio.to_thread.run_sync(fetch)
        server.process.send_signal(SIGTERM)
        assert await server.ended() == 0


async def test_hangup_shows_newcomers_the_new_certificate_and_keeps_who_is_in(tmp_path: Path) -> None:
    async with server_process(tmp_path, *tls_flags(tmp_path)) as server, chatter(server.address) as friend:
        first = await serial(server.address)
        certificate(tmp_path)  # over the old one
        server.process.send_signal(SIGHUP)

        async def changed() -> bool:
            return await serial(server.address) != first

        await eventually(changed)
        assert (await friend.ask("ping"))["type"] == "pong"

        async def said() -> bool:  # its line comes by another way than its certificate
            return "certificate_reloaded" in server.errors

        await eventually(said)


async def test_hangup_with_a_bad_file_keeps_the_old_one(tmp_path: Path) -> None:
    async with server_process(tmp_path, *tls_flags(tmp_path)) as server:
        first = await serial(server.address)
        (tmp_path / "server.pem").write_text("half a certi")
        server.process.send_signal(SIGHUP)

        async def complained() -> bool:
            return "certificate_not_reloaded" in server.errors

        await eventually(complained)
        assert "--tls-cert" in server.errors
        assert await serial(server.address) == first


async def test_hangup_without_tls_does_nothing(tmp_path: Path) -> None:
    async with server_process(tmp_path, *free_flags(tmp_path)) as server:
        server.process.send_signal(SIGHUP)

        async def said() -> bool:
            return "nothing_to_reload" in server.errors

        await eventually(said)
        assert (await ask(server.address, "GET", "/readyz")).status == 200


async def refused(server: ServerProcess, flag: str) -> None:
    assert await server.ended() == 2
    assert server.lines == []
    (line,) = server.errors.splitlines()
    assert line.startswith(f"chatserver: --{flag}: ")


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        (("--tls-cert", "server.pem"), "tls-cert"),
        (("--tls-key", "server.key"), "tls-key"),
        (("--tls-cert", "none.pem", "--tls-key", "server.key"), "tls-cert"),
        (("--tls-cert", "server.pem", "--tls-key", "none.key"), "tls-key"),
        (("--tls-cert", "server.pem", "--tls-key", "other.key"), "tls-key"),
        (("--tls-cert", "server.key", "--tls-key", "server.key"), "tls-cert"),
    ],
)
async def test_bad_files_are_exit_code_2_and_one_line(tmp_path: Path, given: tuple[str, ...], flag: str) -> None:
    certificate(tmp_path)
    certificate(tmp_path, "other")
    async with server_process(tmp_path, *free_flags(tmp_path), *given) as server:
        await refused(server, flag)
