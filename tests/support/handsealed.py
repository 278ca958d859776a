"""A TLS 1.3 client that can also send records which no TLS library makes: sealed here, with the keys of OpenSSL.

Owns: the key schedule of one direction (RFC 8446 sections 5.2 and 7.3). May not: import chatserver.

    async with handsealed(server.address, tmp_path) as (peer, sealer):
        await peer.send(b"as always")
        await sealer.send(HANDSHAKE, b"half a mess")     OpenSSL's own records are out of step from here on
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.support.certificates import trusting
from tests.support.peers import Address, Peer, connect

#: Content types of records (RFC 8446 section 5.1); to the outside every sealed one is application data.
HANDSHAKE, APPLICATION_DATA = 22, 23
#: A KeyUpdate that asks for none in return (RFC 8446 section 4.6.3): type, length, body.
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
#: Bytes of a nonce and of a tag, with every cipher of TLS 1.3 that OpenSSL offers.
NONCE, TAG = 12, 16


class Sealer:
    """Seals what the peer's own library would not, in the place of its next record."""

    def __init__(self, peer: Peer, cipher: str, secret: bytes) -> None:
        self._peer = peer
        self._hash = SHA384() if cipher.endswith("SHA384") else SHA256()
        key = self._expand(secret, b"key", 16 if "AES_128" in cipher else 32)
        self._iv = int.from_bytes(self._expand(secret, b"iv", NONCE), "big")
        self._cipher = ChaCha20Poly1305(key) if "CHACHA20" in cipher else AESGCM(key)

    def _expand(self, secret: bytes, label: bytes, size: int) -> bytes:
        info = size.to_bytes(2, "big") + bytes([6 + len(label)]) + b"tls13 " + label + b"\0"
        return HKDFExpand(self._hash, size, info).derive(secret)

    async def send(self, kind: int, data: bytes) -> None:
        """One record of this type."""
        inner = data + bytes([kind])
        header = bytes([APPLICATION_DATA, 3, 3]) + (len(inner) + TAG).to_bytes(2, "big")
        nonce = (self._iv ^ self._peer.sends).to_bytes(NONCE, "big")
        await self._peer.transport.send_all(header + self._cipher.encrypt(nonce, inner, header))


@asynccontextmanager
async def handsealed(address: Address, folder: Path) -> AsyncIterator[tuple[Peer, Sealer]]:
    """Connect over TLS 1.3; `folder` is for the keys."""
    keys = folder / "keys"
    keys.unlink(missing_ok=True)
    context = trusting(ssl.TLSVersion.TLSv1_3)
    context.keylog_filename = str(keys)
    async with connect(replace(address, tls=context)) as peer:
        lines = [line.split() for line in keys.read_text().splitlines()]
        [secret] = [bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"]
        cipher, *_ = peer.stream.cipher()  # type: ignore[attr-defined]
        yield peer, Sealer(peer, cipher, secret)
