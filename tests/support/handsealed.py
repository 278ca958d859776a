"""TLS clients that can also send records that no TLS library makes, encrypted with the keys of OpenSSL.

Owns: how to get the keys. May not: import chatserver.

    async with handsealed(server.address, tmp_path) as (peer, sealer):
        await peer.send(b"as always")
        await sealer.send(HANDSHAKE, b"half a mess")     OpenSSL's own records are out of step from here on
"""

import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from loadgen.net.tls import seal
from tests.support.certificates import trusting
from tests.support.peers import Address, Peer, connect


class Sealer:
    """Encrypts a record that no TLS library would make, in place of the peer's next one."""

    def __init__(self, peer: Peer, suite: str, secret: bytes) -> None:
        self._peer = peer
        self._suite = suite
        self._secret = secret

    async def send(self, kind: int, data: bytes) -> None:
        """Send one record of this type."""
        await self._peer.transport.send_all(seal(self._suite, self._secret, self._peer.sends, kind, data))


@asynccontextmanager
async def handsealed(address: Address, folder: Path) -> AsyncIterator[tuple[Peer, Sealer]]:
    """Connect over TLS 1.3; the keys are written to `folder`."""
    keys = folder / "keys"
    keys.unlink(missing_ok=True)
    context = trusting(ssl.TLSVersion.TLSv1_3)
    context.keylog_filename = str(keys)
    async with connect(replace(address, tls=context)) as peer:
        lines = [line.split() for line in keys.read_text().splitlines()]
        [secret] = [bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"]
        cipher, *_ = peer.stream.cipher()  # type: ignore[attr-defined]
        yield peer, Sealer(peer, cipher, secret)


#: The cipher suite that `seal_tls12` supports.
TLS12_SUITE = "ECDHE-ECDSA-AES128-GCM-SHA256"
_RANDOM = slice(11, 43)  # the server's, in the first record of its first flight


def seal_tls12(log_line: str, flight: bytes, kind: int, data: bytes) -> bytes:
    """The first record behind a TLS 1.2 client's Finished; `flight` is the server's first (RFC 5246 6.3, RFC 5288)."""
    _, client_random, secret = log_line.split()
    master, seed = bytes.fromhex(secret), b"key expansion" + flight[_RANDOM] + bytes.fromhex(client_random)
    keys, link = b"", seed
    while len(keys) < 36:  # two keys of 16 bytes, and the client's salt of 4
        link = hmac.digest(master, link, "sha256")
        keys += hmac.digest(master, link + seed, "sha256")
    number, head = (1).to_bytes(8), bytes((kind, 3, 3))
    sealed = number + AESGCM(keys[:16]).encrypt(keys[32:36] + number, data, number + head + len(data).to_bytes(2))
    return head + len(sealed).to_bytes(2) + sealed
