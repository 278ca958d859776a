"""TLS as an operator meets it: flags, the line that is printed, a certificate that is replaced while it serves."""

import shutil
import urllib.request
from pathlib import Path
from signal import SIGHUP, SIGTERM

import trio

from tests.support.certificates import certificate, trusting
from tests.support.peers import Address, chatter, connect
from tests.support.serving import eventually, free_flags, server_process


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


async def test_hangup_shows_newcomers_the_new_certificate_and_a_bad_file_keeps_the_old(tmp_path: Path) -> None:
    async with server_process(tmp_path, *tls_flags(tmp_path)) as server, chatter(server.address) as friend:
        first = await serial(server.address)
        certificate(tmp_path)  # over the old one
        server.process.send_signal(SIGHUP)

        async def changed() -> bool:
            return await serial(server.address) != first

        await eventually(changed)
        second = await serial(server.address)

        async def said() -> bool:  # its line comes by another way than its certificate
            return "certificate_reloaded" in server.errors

        await eventually(said)
        (tmp_path / "server.pem").write_text("half a certi")
        server.process.send_signal(SIGHUP)

        await eventually(lambda: "certificate_not_reloaded" in server.errors)
        assert "--tls-cert" in server.errors
        assert await serial(server.address) == second
        assert (await friend.ask("ping"))["type"] == "pong"


async def test_a_key_of_another_certificate_is_exit_code_2_and_one_line(tmp_path: Path) -> None:
    """What else can be wrong with the files: tests/net/test_tls.py."""
    flags = tls_flags(tmp_path)
    _, other = certificate(tmp_path, "other")
    shutil.move(other, tmp_path / "server.key")
    async with server_process(tmp_path, *flags) as server:
        assert await server.ended() == 2
        assert server.lines == []
        [line] = server.errors.splitlines()
        assert line.startswith("chatserver: --tls-key: ")
