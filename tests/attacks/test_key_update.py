"""Partial and whole key updates.

Real records over real sockets against the real server, while a healthy member must notice nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadgen.tls import HANDSHAKE, KEY_UPDATE
from tests.support.certificates import certificate
from tests.support.handsealed import Sealer, handsealed
from tests.support.peers import Peer, open_websocket, publish
from tests.support.serving import Serving, neighbour, serving

pytestmark = pytest.mark.jumping_clock


@asynccontextmanager
async def half_a_message(folder: Path) -> AsyncIterator[tuple[Serving, Peer, Sealer]]:
    """A server, and a peer that can send half a KeyUpdate."""
    cert, key = certificate(folder)
    async with (
        serving(tls_cert=cert, tls_key=key, ping_interval=600.0) as server,
        handsealed(server.address, folder) as (peer, sealer),
    ):
        yield server, peer, sealer


async def test_half_a_key_update_ends_its_own_connection(tmp_path: Path) -> None:
    """The end is immediate, although the server has nothing to send: OpenSSL encrypts nothing before the rest."""
    async with half_a_message(tmp_path) as (server, peer, sealer), neighbour(server):
        await open_websocket(peer)
        await sealer.send(HANDSHAKE, KEY_UPDATE[:4])
        await server.counted("tls-failed")


@pytest.mark.parametrize("update", [KEY_UPDATE, KEY_UPDATE[:-1] + b"\x01"], ids=["its own key", "both keys"])
async def test_a_whole_key_update_is_accepted(tmp_path: Path, update: bytes) -> None:
    """The peer changes its key, or requests that the server changes its own as well (RFC 8446 section 4.6.3)."""
    async with half_a_message(tmp_path) as (server, peer, sealer):
        member = await open_websocket(peer)
        await member.ask("join", room="busy")
        await sealer.send(HANDSHAKE, update)
        for number in range(3):
            await publish(server.address, "busy", f"message {number}")
            assert (await member.next("message"))["text"] == f"message {number}"
        assert await server.closes("tls-failed") == 0
