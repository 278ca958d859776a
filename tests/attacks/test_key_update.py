"""Half a KeyUpdate: OpenSSL seals nothing until it has read the rest, whatever the server has to say meanwhile.

Real records over real sockets against the real server, and a healthy member beside each that must notice nothing.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from loadgen.tls import HANDSHAKE
from tests.support.certificates import certificate
from tests.support.handsealed import KEY_UPDATE, Sealer, handsealed
from tests.support.peers import PATIENCE, Peer, chatter, open_websocket, publish, request, say, upgrade
from tests.support.serving import Serving, serving

pytestmark = pytest.mark.jumping_clock

#: Seconds of a limit that would be over long after a test has given up waiting.
TOO_LATE = 3 * PATIENCE


@asynccontextmanager
async def half_a_message(folder: Path, **settings: Any) -> AsyncIterator[tuple[Serving, Peer, Sealer]]:
    """A server, and a peer that can leave a KeyUpdate half said."""
    cert, key = certificate(folder)
    async with (
        serving(tls_cert=cert, tls_key=key, **settings) as server,
        handsealed(server.address, folder) as (peer, sealer),
    ):
        yield server, peer, sealer


async def say_half(sealer: Sealer) -> None:
    await sealer.send(HANDSHAKE, KEY_UPDATE[:4])
    await trio.sleep(0.1)  # it may not be read together with what makes the server speak


EVENTS = request("GET", "/rooms/busy/events")
JOIN = upgrade() + say(type="join", id=1, room="busy")
#: What the peer says before, what the server says to that, and what makes it speak: a publish, or a limit of 1 s.
SPEAKING: dict[str, tuple[bytes, bytes, str]] = {
    "push": (JOIN, b'"joined"', ""),
    "event": (EVENTS, b"retry", ""),
    "poll": (request("GET", "/rooms/busy/messages?after=0&wait=60"), b"", ""),
    "ping": (upgrade(), b'"hello"', "ping_interval"),
    "heartbeat": (EVENTS, b"retry", "heartbeat_interval"),
    "408": (b"GET / HTTP/1.1\r\n", b"", "head_deadline"),
}


@pytest.mark.parametrize("what", SPEAKING)
async def test_half_a_key_update_ends_its_own_connection(tmp_path: Path, what: str) -> None:
    """OpenSSL seals nothing before it has heard the rest: found when there is something to say."""
    wire, answer, limit = SPEAKING[what]
    settings = {limit: 1.0} if limit else {}
    async with half_a_message(tmp_path, **settings) as (server, peer, sealer), chatter(server.address) as friend:
        await friend.ask("join", room="busy")
        await peer.send(wire)
        if answer:
            await peer.until(answer)
        elif not limit:
            await server.in_phase("held")
        await say_half(sealer)
        if not limit:
            await publish(server.address, "busy", "hello")
        await server.counted("tls-failed")
        await publish(server.address, "busy", "the last one")
        while (await friend.next("message"))["text"] != "the last one":
            pass


async def test_half_a_key_update_and_an_end_that_is_ours(tmp_path: Path) -> None:
    """Even our close_notify cannot be sealed: the peer is closed without it, for the reason that there was."""
    async with half_a_message(tmp_path, keepalive_deadline=1.0) as (server, peer, sealer):
        assert (await peer.request("GET", "/healthz")).status == 200
        await say_half(sealer)
        await server.counted("keepalive-deadline")


async def test_half_a_key_update_when_the_server_stops(tmp_path: Path) -> None:
    async with half_a_message(tmp_path, drain_timeout=TOO_LATE) as (server, peer, sealer):
        await open_websocket(peer)
        await say_half(sealer)
        async with chatter(server.address) as friend:
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
