"""TLS of a client on memory buffers; a TLS 1.3 client that can send any record; and a ClientHello alone.

Owns: the handshake and reading, by OpenSSL on memory buffers; and the sealing of single records by hand (RFC 8446
sections 5.2 and 7.3), with the traffic secret that OpenSSL writes to its key log. May not: touch a socket.
"""

import hashlib
import hmac
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

from loadgen.net.target import client_context, make_context

HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

#: A KeyUpdate that asks for none in return (RFC 8446 section 4.6.3): type, three bytes of length, `update_requested`.
KEY_UPDATE: Final = b"\x18\x00\x00\x01\x00"

#: Head of a sealed record, which claims to be application data of TLS 1.2 (RFC 8446 section 5.2).
_SEALED_HEAD: Final = b"\x17\x03\x03"
_TAG_BYTES: Final = 16
_NONCE_BYTES: Final = 12
#: The largest payload of a record (RFC 8446 section 5.1).
RECORD_BYTES: Final = 16 * 1024
_SECRET: Final = b"CLIENT_TRAFFIC_SECRET_0"


class Link:
    """One connection of a client: OpenSSL on memory buffers. Raises ssl.SSLError."""

    __slots__ = ("_received", "_to_send", "established", "tls")

    def __init__(self, host: str | None = None, context: ssl.SSLContext | None = None) -> None:
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or client_context()).wrap_bio(self._received, self._to_send, server_hostname=host)
        self.established = False

    def handshake(self, records: bytes = b"") -> bytes:
        """Continue with received records, and return the bytes to send."""
        self._received.write(records)
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.established = True
        return self._to_send.read()

    def encrypted(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._to_send.read()

    def decrypted(self, records: bytes) -> tuple[bytes, bool]:
        """Decrypt records; the second value is whether the peer sent close_notify."""
        self._received.write(records)
        parts = []
        try:
            while part := self.tls.read(RECORD_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts), False
        except ssl.SSLZeroReturnError:
            pass  # close_notify; after our own it is an empty read instead
        return b"".join(parts), True

    def goodbye(self) -> bytes:
        """Return a close_notify: nothing more will be sent."""
        with suppress(ssl.SSLError):  # it also waits for the peer's close_notify, which does not matter here
            self.tls.unwrap()
        return self._to_send.read()

    def take_reply(self) -> bytes:
        """Return what OpenSSL wants to send by itself: the answer to a KeyUpdate."""
        return self._to_send.read()


class Tls13(Link):
    """A `Link` that seals its records by hand, and so can send any."""

    __slots__ = ("_records", "_secret")

    def __init__(self, host: str | None = None) -> None:
        super().__init__(host, _logging_context()[0])
        self._secret = b""
        self._records = 0  # sealed with this secret

    def handshake(self, records: bytes = b"") -> bytes:
        """Continue; when the handshake is over, take the secret from the log."""
        reply, before = super().handshake(records), self._secret
        self._secret = before or (_logged_secret() if self.established else b"")
        return reply

    def encrypted(self, data: bytes) -> bytes:
        return self.seal(APPLICATION_DATA, data)

    def seal(self, content_type: int, content: bytes) -> bytes:
        """Make a record of any type with any content."""
        self._records += 1
        return seal(self._suite, self._secret, self._records - 1, content_type, content)

    def change_key(self) -> None:
        """Seal with the next key, as after a KeyUpdate (RFC 8446 section 7.2)."""
        digest = _digest(self._suite)
        self._secret = _expand(digest, self._secret, b"traffic upd", hashlib.new(digest).digest_size)
        self._records = 0

    @property
    def _suite(self) -> str:
        suite = self.tls.cipher()
        assert suite is not None, "there is a suite once the handshake is over"
        return suite[0]


def seal(suite: str, secret: bytes, number: int, content_type: int, content: bytes) -> bytes:
    """Make the `number`th record, counted from 0, under a traffic secret; `suite` as in `TLS_AES_128_GCM_SHA256`."""
    digest = _digest(suite)
    key_bytes = 16 if "AES_128" in suite else 32
    aead = "ChaCha20Poly1305" if "CHACHA20" in suite else "AESGCM"
    nonce = int.from_bytes(_expand(digest, secret, b"iv", _NONCE_BYTES)) ^ number
    plaintext = content + bytes((content_type,))
    head = _SEALED_HEAD + (len(plaintext) + _TAG_BYTES).to_bytes(2)
    encrypt = _aead(aead, _expand(digest, secret, b"key", key_bytes))
    return head + encrypt(nonce.to_bytes(_NONCE_BYTES), plaintext, head)


def _digest(suite: str) -> str:
    return suite.rpartition("_")[2].lower()


def _aead(name: str, key: bytes) -> Callable[[bytes, bytes, bytes], bytes]:
    # Imported only when needed: all processes of a run load all personas, and this takes 10 MB in each.
    from cryptography.hazmat.primitives.ciphers import aead  # noqa: PLC0415

    encrypt: Callable[[bytes, bytes, bytes], bytes] = getattr(aead, name)(key).encrypt
    return encrypt


def _expand(digest: str, secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label without context (RFC 8446 section 7.1), for lengths up to one digest."""
    label = b"tls13 " + label
    info = length.to_bytes(2) + bytes((len(label),)) + label + b"\0"
    return hmac.digest(secret, info + b"\x01", digest)[:length]


@cache
def client_hello(host: str = "localhost") -> bytes:
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):  # it waits for the server's answer
        client_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=host).do_handshake()
    return hello.read()


@cache
def _logging_context() -> tuple[ssl.SSLContext, int]:
    """The shared context, and the descriptor of its key log, which is a file in memory."""
    log = os.memfd_create("key log")
    context = make_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.keylog_filename = f"/proc/self/fd/{log}"
    return context, log


def _logged_secret() -> bytes:
    """The secret that was logged last, of the handshake that has just ended."""
    log = _logging_context()[1]
    lines = os.pread(log, os.fstat(log).st_size, 0).splitlines()
    os.ftruncate(log, 0)
    secret = [line.split()[2] for line in lines if line.startswith(_SECRET)][-1]
    return bytes.fromhex(secret.decode())
