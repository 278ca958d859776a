"""TLS against peers that are slow in it, wrong in it, or gone in the middle of it.

Each test has a healthy neighbour, over TLS as well, that must not notice. Peers that say what no TLS library says are
plain sockets; the others speak through OpenSSL. What every transport does over TLS is not tested again here: it is
the same code behind the same calls.
"""

import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio_websocket

from tests.attacks.test_flush import flood, join
from tests.support.certificates import NAMES, certificate, trusting_any
from tests.support.peers import (
    PATIENCE,
    Address,
    Chatter,
    ask,
    chatter,
    connect,
    publish,
    request,
)
from tests.support.serving import Serving, neighbour, serving

pytestmark = pytest.mark.jumping_clock

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The two settings."""
    cert, key = certificate(tmp_path_factory.mktemp("tls"))
    return {"tls_cert": cert, "tls_key": key}


def plain(server: Serving) -> Address:
    """Its address, for peers that make their own TLS or none."""
    return replace(server.address, tls=None)


def speaking(server: Serving, version: ssl.TLSVersion) -> Address:
    return replace(server.address, tls=trusting_any(version))


def hello() -> bytes:
    """A ClientHello as OpenSSL sends it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting_any().wrap_bio(incoming, outgoing, server_hostname=NAMES[0])
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@asynccontextmanager
async def under_tls(files: dict[str, Any], **settings: Any) -> AsyncIterator[Serving]:
    async with serving(**files, **settings) as server, neighbour(server):
        yield server


# -- slow -----------------------------------------------------------------------------------------------------------


async def test_slow_handshakes(files: dict[str, Any]) -> None:
    """Nothing at all, a hello that drips, a hello and then nothing: nothing is said before a hello is whole."""
    async with under_tls(files, tls_deadline=0.5) as server:
        async with (
            connect(plain(server)) as silent,
            connect(plain(server)) as slow,
            connect(plain(server)) as half,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(lambda: slow.drip(hello() * 100, pause=0.02))
            await half.send(hello())
            assert (await half.rest())[:1] == b"\x16", "our flight, and then the end"
            assert await silent.rest() == b""
            assert await slow.rest() == b""
            nursery.cancel_scope.cancel()
        await server.counted("tls-deadline", 3)


async def test_slow_requests_behind_a_handshake(files: dict[str, Any]) -> None:
    """From then on it is a peer like any other: HEAD's deadline, and a close_notify, in each version."""
    async with under_tls(files, head_deadline=0.5) as server:
        for version in VERSIONS:
            async with connect(speaking(server, version)) as peer:
                assert await peer.rest() == b""
        async with connect(server.address) as peer, trio.open_nursery() as nursery:  # in records of one byte
            nursery.start_soon(lambda: peer.drip(request("GET", "/", headers={"X": "y" * 10_000}), pause=0.02))
            assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")
            nursery.cancel_scope.cancel()
        await server.counted("head-deadline", 3)


async def test_a_reader_that_stopped_is_aborted(files: dict[str, Any]) -> None:
    async with under_tls(files, flush_window=1.0, send_buffer=8192) as server:
        await flood(server, 100)
        async with AsyncExitStack() as stack:
            for version in VERSIONS:
                address = speaking(server, version)
                await join(await stack.enter_async_context(connect(address, receive_buffer=4096)), "websocket")
            await server.counted("flush-deadline", 2)


# -- wrong ----------------------------------------------------------------------------------------------------------


async def test_plain_http_on_the_tls_port_is_told_so(files: dict[str, Any]) -> None:
    async with under_tls(files) as server:
        answer = await ask(plain(server), "GET", "/healthz")
        assert (answer.status, answer.error) == (400, "bad_request")
        assert "https://" in answer.json["error"]["message"]
        await server.counted("tls-failed")


NO_HELLOS = {
    "131,072 bytes announced": b"\x16\x03\x01\x02\x00\x01\x02\x00\x00" + bytes(60),
    "an oversized record": b"\x16\x03\x01\xff\xff" + bytes(100_000),
    "records of a byte": b"\x16\x03\x01\x00\x01\x01" * 20,
    "SSL 2": b"\x80\x2e\x01\x03\x01" + bytes(100),
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "zeros": bytes(10),
    "SSH": b"SSH-2.0-x\r\n",
    "blank lines": b"\r\n\r\n",
}
NOISE = b"\x17\x03\x03\x00\x40" + b"x" * 64


async def test_bytes_that_are_no_handshake_end_it_at_once(files: dict[str, Any]) -> None:
    async with under_tls(files, tls_deadline=60.0) as server:
        for data in NO_HELLOS.values():
            async with connect(plain(server)) as peer:
                with suppress(trio.BrokenResourceError):
                    await peer.send(data)
                await peer.rest()
        async with connect(plain(server)) as peer:
            await peer.send(hello())
            await peer.more()
            await peer.send(NOISE)
            await peer.rest()
        await server.counted("tls-failed", len(NO_HELLOS) + 1)


async def test_a_peer_over_the_cap_gets_an_alert(files: dict[str, Any]) -> None:
    async with serving(**files, per_ip=2) as server, chatter(server.address), chatter(server.address):
        with pytest.raises(trio.BrokenResourceError) as refused:
            async with connect(server.address):
                pass
        assert "alert internal error" in str(refused.value.__cause__).lower()


async def test_half_handshakes_give_their_places_to_newcomers(files: dict[str, Any]) -> None:
    async with serving(**files, total=12, evict_after=2.0) as server, neighbour(server), AsyncExitStack() as stack:
        for _ in range(9):
            peer = await stack.enter_async_context(connect(plain(server)))
            await peer.send(hello())
        await trio.sleep(3.0)
        for _ in range(5):
            friend = await stack.enter_async_context(chatter(server.address))
            assert (await friend.ask("ping"))["type"] == "pong"


# -- gone -----------------------------------------------------------------------------------------------------------


async def test_fin_without_close_notify(files: dict[str, Any]) -> None:
    async with under_tls(files) as server:
        before = await server.metric("chatserver_members")
        async with chatter(server.address) as rude:
            await rude.ask("join", room="r")
            await rude.peer.end()
            assert await rude.peer.rest() == b""
        assert await server.metric("chatserver_members") == before


async def test_close_notify_on_a_held_poll_is_answered_at_once(files: dict[str, Any]) -> None:
    """As FIN on a plain connection: done with sending, and perhaps not gone."""
    async with under_tls(files) as server, connect(plain(server)) as peer:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting_any().wrap_bio(incoming, outgoing, server_hostname=NAMES[0])
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await peer.send(outgoing.read())
                await peer.more()
                incoming.write(peer.buffer)
                peer.buffer = b""
        client.write(request("GET", "/rooms/lobby/messages?after=0&wait=60"))
        await peer.send(outgoing.read())
        await server.in_phase("held")
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()
        await peer.send(outgoing.read())
        incoming.write(await peer.rest())
        assert client.read(65_536).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ssl.SSLZeroReturnError):  # its close_notify, and not a cut
            client.read(1)


async def test_reset_in_the_middle_of_a_handshake(files: dict[str, Any]) -> None:
    async with under_tls(files) as server:
        for wire in (b"", hello()[:50], hello()):
            async with connect(plain(server)) as peer:
                if wire:
                    await peer.send(wire)
        await server.held(1)
        assert await server.closes("tls-failed") == 0


async def test_drain_does_not_wait_for_handshakes(files: dict[str, Any]) -> None:
    async with (
        serving(**files, drain_timeout=60.0) as server,
        connect(plain(server)) as silent,
        connect(plain(server)) as half,
    ):
        await half.send(hello())
        await half.more()
        await server.held(2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await silent.rest() == b""
        await half.rest()


# -- together -------------------------------------------------------------------------------------------------------


async def test_one_room_in_two_versions_and_a_member_that_does_not_read(files: dict[str, Any]) -> None:
    """Each connection is sealed by itself; a member that is behind holds up nobody, and gets everything in the end."""
    texts = [f"{number} " + "x" * 3000 for number in range(120)]
    async with under_tls(files, send_buffer=8192) as server, AsyncExitStack() as stack:
        fast = [
            await stack.enter_async_context(chatter(speaking(server, version))) for version in VERSIONS for _ in (1, 2)
        ]
        slow = await stack.enter_async_context(chatter(server.address, receive_buffer=4096))
        for member in (*fast, slow):
            await member.ask("join", room="r")
        heard: list[list[str]] = []

        async def hear(member: Chatter) -> None:
            heard.append([(await member.next("message"))["text"] for _ in texts])

        async with trio.open_nursery() as nursery:
            for member in fast:
                nursery.start_soon(hear, member)
            for text in texts:
                await publish(server.address, "r", text)
        assert heard == [texts] * len(fast)
        await hear(slow)
        assert heard[-1] == texts


async def test_many_handshakes_at_once(files: dict[str, Any]) -> None:
    """More than there are turns in many passes: everybody gets in, and the neighbour does not notice."""
    async with under_tls(files) as server:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask, server.address, "GET", "/healthz")
        assert await server.metric("chatserver_tls_handshakes_total") > 100


async def test_an_independent_client(files: dict[str, Any]) -> None:
    """trio-websocket, with its own way through TLS."""
    async with under_tls(files) as server:
        url = f"wss://localhost:{server.address.port}/ws"
        with trio.fail_after(PATIENCE):
            async with trio_websocket.open_websocket_url(url, ssl_context=trusting_any()) as socket:
                assert '"hello"' in await socket.get_message()
                await socket.send_message('{"type":"ping","id":1}')
                assert '"pong"' in await socket.get_message()
            assert socket.closed is not None
            assert socket.closed.code == 1000


async def test_a_cookie_given_over_tls_stays_there(files: dict[str, Any]) -> None:
    async with under_tls(files) as server, chatter(server.address) as friend:
        assert "; Secure" in friend.handshake.headers["set-cookie"]
