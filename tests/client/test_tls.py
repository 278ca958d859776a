"""`chatserver chat` and the library over TLS: trust comes from the system, or from SSL_CERT_FILE."""

from pathlib import Path

import pytest

from chatserver.client import connect
from chatserver.client.events import Acknowledged, Connected, Reconnecting
from tests.client.listener import Listener
from tests.support.certificates import authority, certificate
from tests.support.serving import serving


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_server_under_tls(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority().cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    async with (
        serving(tls_cert=cert, tls_key=key) as server,
        connect(f"{scheme}://localhost:{server.address.port}", rooms=["lobby"]) as client,
    ):
        listener = Listener(client)
        await listener.until_kind(Connected)
        client.publish("lobby", "sealed")
        await listener.until_kind(Acknowledged)


async def test_a_server_that_nobody_vouches_for(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with (
        serving(tls_cert=cert, tls_key=key) as server,
        connect(f"https://localhost:{server.address.port}", rooms=["lobby"]) as client,
    ):
        listener = Listener(client)
        await listener.until_kind(Reconnecting)
        assert "certificate: " in str(listener.seen[-1])
