"""TLS against peers that are slow, malformed, or gone during a handshake.

Each test has a healthy neighbour, over TLS as well, that must not notice. Peers that send what no TLS library sends are
plain sockets; the others use OpenSSL. Closes, deadlines and backlogs under TLS: tests/net.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.net.connections import FREE_INPUT
from loadgen.net.tls import HANDSHAKE, KEY_UPDATE
from tests.support.certificates import certificate, client_hello, trusting_any
from tests.support.handsealed import handsealed
from tests.support.peers import Address, Chatter, ask, chatter, connect, open_websocket, publish, request, say, upgrade
from tests.support.serving import Serving, neighbour, serving

pytestmark = pytest.mark.jumping_clock

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of the certificate and its key."""
    cert, key = certificate(tmp_path_factory.mktemp("tls"))
    return {"tls_cert": cert, "tls_key": key}


def plain(server: Serving) -> Address:
    """The server's address without a TLS context."""
    return replace(server.address, tls=None)


def speaking(server: Serving, version: ssl.TLSVersion) -> Address:
    return replace(server.address, tls=trusting_any(version))


@asynccontextmanager
async def under_tls(files: dict[str, Any], **settings: Any) -> AsyncIterator[Serving]:
    async with serving(**files, **settings) as server, neighbour(server):
        yield server


async def test_slow_handshakes_end_at_their_deadline(files: dict[str, Any]) -> None:
    """Silence, a hello byte by byte, a whole hello and then silence."""
    async with under_tls(files, tls_deadline=0.5) as server:
        async with (
            connect(plain(server)) as silent,
            connect(plain(server)) as slow,
            connect(plain(server)) as half,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(lambda: slow.drip(client_hello() * 100, pause=0.02))
            await half.send(client_hello())
            assert (await half.rest())[:1] == b"\x16", "the server's flight, then the end"
            assert await silent.rest() == b""
            assert await slow.rest() == b""
            nursery.cancel_scope.cancel()
        await server.counted("tls-deadline", 3)


NO_HELLOS = {
    "131,072 bytes announced": b"\x16\x03\x01\x02\x00\x01\x02\x00\x00" + bytes(60),
    "an oversized record": b"\x16\x03\x01\xff\xff" + bytes(100_000),
    "records of a byte": b"\x16\x03\x01\x00\x01\x01" * 20,
    "SSL 2": b"\x80\x2e\x01\x03\x01" + bytes(100),
    "SSH": b"SSH-2.0-x\r\n",
}
NOISE = b"\x17\x03\x03\x00\x40" + b"x" * 64


async def test_bytes_that_are_no_handshake_close_at_once(files: dict[str, Any]) -> None:
    async with under_tls(files, tls_deadline=60.0) as server:
        for data in NO_HELLOS.values():
            async with connect(plain(server)) as peer:
                with suppress(trio.BrokenResourceError):
                    await peer.send(data)
                await peer.rest()
        async with connect(plain(server)) as peer:
            await peer.send(client_hello())
            await peer.more()
            await peer.send(NOISE)
            await peer.rest()
        answer = await ask(plain(server), "GET", "/healthz")
        assert (answer.status, answer.error) == (400, "bad_request")
        assert "https://" in answer.json["error"]["message"]
        await server.counted("tls-failed", len(NO_HELLOS) + 2)


async def test_a_peer_over_the_cap_gets_an_alert(files: dict[str, Any]) -> None:
    async with serving(**files, per_ip=2) as server, chatter(server.address), chatter(server.address):
        with pytest.raises(trio.BrokenResourceError) as refused:
            async with connect(server.address):
                pass
        assert "alert internal error" in str(refused.value.__cause__).lower()


async def test_reset_in_the_middle_of_a_handshake(files: dict[str, Any]) -> None:
    async with under_tls(files) as server:
        for wire in (b"", client_hello()[:50], client_hello()):
            async with connect(plain(server)) as peer:
                if wire:
                    await peer.send(wire)
        await server.held(1)
        assert await server.closes("tls-failed") == 0


async def test_one_room_in_two_versions_and_a_member_that_does_not_read(files: dict[str, Any]) -> None:
    """A member that is behind delays no other, and gets everything in the end."""
    texts = [f"{number} " + "x" * 3000 for number in range(120)]
    async with under_tls(files, send_buffer=8192) as server, AsyncExitStack() as stack:
        fast = [
            await stack.enter_async_context(chatter(speaking(server, version))) for version in VERSIONS for _ in (1, 2)
        ]
        slow = await stack.enter_async_context(chatter(server.address, receive_buffer=4096))
        speaker = await stack.enter_async_context(chatter(server.address))
        for member in (*fast, slow):
            await member.ask("join", room="r")
        heard: list[list[str]] = []

        async def hear(member: Chatter) -> None:
            heard.append([(await member.next("message"))["text"] for _ in texts])

        async with trio.open_nursery() as nursery:
            for member in fast:
                nursery.start_soon(hear, member)
            for text in texts:
                assert (await speaker.ask("publish", room="r", text=text))["type"] == "ack"
        assert heard == [texts] * len(fast)
        await hear(slow)
        assert heard[-1] == texts


async def test_an_upgrade_whose_frames_sent_ahead_cannot_be_kept_is_refused(files: dict[str, Any]) -> None:
    """They came in its record. A WebSocket without them would begin within a message, or within a frame."""
    most = 65_536
    async with (
        under_tls(files, all_unfinished_bytes=most, max_body_bytes=most) as server,
        connect(server.address) as uploader,
        connect(server.address) as peer,
    ):
        upload = request("POST", "/rooms/lobby/messages", headers={"Content-Length": str(most)}) + bytes(most - 1)
        await uploader.send(upload)
        await server.reaches(len(upload) - FREE_INPUT, "chatserver_unfinished_bytes")
        await peer.send(upgrade() + say(type="join", id=1, room="lobby") * 100)
        answer = await peer.response()
        assert (answer.status, answer.error, answer.headers["connection"]) == (503, "unavailable", "close")
        assert await peer.rest() == b""


@pytest.mark.parametrize("update", [KEY_UPDATE, KEY_UPDATE[:-1] + b"\x01"], ids=["its own key", "both keys"])
async def test_a_whole_key_update_is_accepted(files: dict[str, Any], tmp_path: Path, update: bytes) -> None:
    """The peer changes its key, or requests that the server changes its own as well (RFC 8446 section 4.6.3).

    Half of one: the attack `tls-half-message` of the catalogue.
    """
    async with serving(**files, ping_interval=600.0) as server, handsealed(server.address, tmp_path) as (peer, sealer):
        member = await open_websocket(peer)
        await member.ask("join", room="busy")
        await sealer.send(HANDSHAKE, update)
        for number in range(3):
            await publish(server.address, "busy", f"message {number}")
            assert (await member.next("message"))["text"] == f"message {number}"
        assert await server.closes("tls-failed") == 0
