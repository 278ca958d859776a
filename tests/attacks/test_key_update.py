"""Whole key updates, as real records over real sockets. Half of one: the attack `tls-half-message` of the catalogue."""

from pathlib import Path

import pytest

from loadgen.tls import HANDSHAKE, KEY_UPDATE
from tests.support.certificates import certificate
from tests.support.handsealed import handsealed
from tests.support.peers import open_websocket, publish
from tests.support.serving import serving

pytestmark = pytest.mark.jumping_clock


@pytest.mark.parametrize("update", [KEY_UPDATE, KEY_UPDATE[:-1] + b"\x01"], ids=["its own key", "both keys"])
async def test_a_whole_key_update_is_accepted(tmp_path: Path, update: bytes) -> None:
    """The peer changes its key, or requests that the server changes its own as well (RFC 8446 section 4.6.3)."""
    cert, key = certificate(tmp_path)
    async with (
        serving(tls_cert=cert, tls_key=key, ping_interval=600.0) as server,
        handsealed(server.address, tmp_path) as (peer, sealer),
    ):
        member = await open_websocket(peer)
        await member.ask("join", room="busy")
        await sealer.send(HANDSHAKE, update)
        for number in range(3):
            await publish(server.address, "busy", f"message {number}")
            assert (await member.next("message"))["text"] == f"message {number}"
        assert await server.closes("tls-failed") == 0
