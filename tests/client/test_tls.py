"""`chatserver chat` and the library over TLS: trust comes from the system, or from SSL_CERT_FILE."""

from pathlib import Path

import pytest

from chatserver.client import Reconnecting
from tests.client.listener import TRANSPORTS, listening
from tests.support.certificates import authority, certificate
from tests.support.serving import serving


async def test_a_server_under_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority().cert_pem.bytes())
    async with serving(tls_cert=cert, tls_key=key) as server:
        async with listening(f"https://localhost:{server.address.port}") as listener:
            (event,) = await listener.until(Reconnecting)
            assert "certificate: " in event.why
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        for transport in TRANSPORTS:
            async with listening(f"https://localhost:{server.address.port}", transport=transport) as listener:
                listener.say("sealed")
                await listener.texts(1)
                await listener.acknowledged(1)
