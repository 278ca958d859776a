"""Half a KeyUpdate: OpenSSL seals nothing until it has read the rest, whatever the server has to say meanwhile.

Real records over real sockets against the real server, and a healthy neighbour beside each that must notice nothing.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.certificates import certificate
from tests.support.handsealed import HANDSHAKE, KEY_UPDATE, Sealer, handsealed
from tests.support.peers import PATIENCE, Peer, chatter, open_websocket, publish, request
from tests.support.serving import Serving, neighbour, serving

pytestmark = pytest.mark.jumping_clock

#: Seconds of a limit that would be over long after a test has given up waiting.
TOO_LATE = 3 * PATIENCE


@asynccontextmanager
async def half_a_message(folder: Path, **settings: Any) -> AsyncIterator[tuple[Serving, Peer, Sealer]]:
    """A server, its neighbour, and a peer that can leave a KeyUpdate half said."""
    cert, key = certificate(folder)
    async with (
        serving(tls_cert=cert, tls_key=key, **settings) as server,
        neighbour(server),
        handsealed(server.address, folder) as (peer, sealer),
    ):
        yield server, peer, sealer


async def say_half(sealer: Sealer) -> None:
    await sealer.send(HANDSHAKE, KEY_UPDATE[:4])
    await trio.sleep(0.1)  # it may not be read together with what makes the server speak


async def be_pushed_frames(server: Serving, peer: Peer, sealer: Sealer) -> None:
    member = await open_websocket(peer)
    await member.ask("join", room="busy")
    await say_half(sealer)
    await publish(server.address, "busy", "hello")


async def be_pushed_events(server: Serving, peer: Peer, sealer: Sealer) -> None:
    await peer.send(request("GET", "/rooms/busy/events"))
    await peer.head()
    await say_half(sealer)
    await publish(server.address, "busy", "hello")


async def hold_a_poll(server: Serving, peer: Peer, sealer: Sealer) -> None:
    await peer.send(request("GET", "/rooms/busy/messages?after=0&wait=60"))
    await server.in_phase("held")
    await say_half(sealer)
    await publish(server.address, "busy", "hello")


async def be_pinged(server: Serving, peer: Peer, sealer: Sealer) -> None:
    await open_websocket(peer)
    await say_half(sealer)


async def be_sent_a_heartbeat(server: Serving, peer: Peer, sealer: Sealer) -> None:
    await peer.send(request("GET", "/rooms/busy/events"))
    await peer.head()
    await say_half(sealer)


async def be_told_408(server: Serving, peer: Peer, sealer: Sealer) -> None:
    await peer.send(b"GET / HTTP/1.1\r\n")
    await say_half(sealer)


@pytest.mark.parametrize(
    ("prepare", "settings"),
    [
        pytest.param(be_pushed_frames, {}, id="push"),
        pytest.param(be_pushed_events, {}, id="event"),
        pytest.param(hold_a_poll, {}, id="poll"),
        pytest.param(be_pinged, {"ping_interval": 1.0}, id="ping"),
        pytest.param(be_sent_a_heartbeat, {"heartbeat_interval": 1.0}, id="heartbeat"),
        pytest.param(be_told_408, {"head_deadline": 1.0}, id="408"),
    ],
)
async def test_half_a_key_update_ends_its_own_connection(
    tmp_path: Path, prepare: Callable[[Serving, Peer, Sealer], Any], settings: dict[str, float]
) -> None:
    """OpenSSL seals nothing before it has heard the rest: found when there is something to say."""
    async with half_a_message(tmp_path, **settings) as (server, peer, sealer), chatter(server.address) as friend:
        await friend.ask("join", room="busy")
        await prepare(server, peer, sealer)
        await server.counted("tls-failed")
        await publish(server.address, "busy", "the last one")
        heard = ""
        while heard != "the last one":
            heard = (await friend.next("message"))["text"]


async def test_half_a_key_update_and_an_end_that_is_ours(tmp_path: Path) -> None:
    """Even our close_notify cannot be sealed: the peer is closed without it, for the reason that there was."""
    async with half_a_message(tmp_path, keepalive_deadline=1.0) as (server, peer, sealer):
        assert (await peer.request("GET", "/healthz")).status == 200
        await say_half(sealer)
        await server.counted("keepalive-deadline")


async def test_half_a_key_update_when_the_server_stops(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with (
        serving(tls_cert=cert, tls_key=key, drain_timeout=TOO_LATE) as server,
        chatter(server.address) as friend,
        handsealed(server.address, tmp_path) as (peer, sealer),
    ):
        await open_websocket(peer)
        await say_half(sealer)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await friend.next("goaway"))["reason"] == "restart"
        assert (await friend.closed()).code == 1012


@pytest.mark.parametrize("update", [KEY_UPDATE, KEY_UPDATE[:-1] + b"\x01"], ids=["its own key", "both keys"])
async def test_a_whole_key_update_is_no_trouble(tmp_path: Path, update: bytes) -> None:
    """The peer changes its key, or has the server change its own as well (RFC 8446 section 4.6.3)."""
    async with half_a_message(tmp_path) as (server, peer, sealer):
        member = await open_websocket(peer)
        await member.ask("join", room="busy")
        await sealer.send(HANDSHAKE, update)
        for number in range(3):
            await publish(server.address, "busy", f"message {number}")
            assert (await member.next("message"))["text"] == f"message {number}"
        assert await server.closes("tls-failed") == 0
