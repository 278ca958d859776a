"""A member that changes its keys (RFC 8446 section 4.6.3), and has us change ours, goes on hearing its room."""

from pathlib import Path

import pytest

from tests.support.certificates import certificate
from tests.support.handsealed import HANDSHAKE, KEY_UPDATE, handsealed
from tests.support.peers import open_websocket, publish
from tests.support.serving import neighbour, serving

#: Asks for one in return.
KEY_UPDATE_FOR_BOTH = KEY_UPDATE[:-1] + b"\x01"


@pytest.mark.parametrize("update", [KEY_UPDATE, KEY_UPDATE_FOR_BOTH], ids=["its own", "both"])
async def test_it_goes_on_hearing_its_room(update: bytes, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with (
        serving(tls_cert=cert, tls_key=key) as server,
        neighbour(server),
        handsealed(server.address, tmp_path) as (peer, sealer),
    ):
        friend = await open_websocket(peer)
        await friend.ask("join", room="lobby")
        await sealer.send(HANDSHAKE, update)
        for number in range(3):
            await publish(server.address, "lobby", f"message {number}")
            assert (await friend.next("message"))["text"] == f"message {number}"
        assert await server.closes("tls-failed") == 0
