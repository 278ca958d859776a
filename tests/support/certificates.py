"""A certificate authority that only the tests' clients trust, and a client without a socket.

Owns: the authority, one for each run; OpenSSL's buffers of a client. May not: import chatserver.

    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key) as server: ...
"""

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme

#: The host that the certificates are for, and that clients ask for.
NAMES = ("localhost", "127.0.0.1")


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(
    folder: Path, name: str = "server", *, names: tuple[str, ...] = NAMES, days: tuple[int, int] = (-30, 60)
) -> tuple[str, str]:  # fmt: skip
    """Paths of a fresh certificate and its key, valid from and until so many days from now."""
    begins, ends = (datetime.now(UTC) + timedelta(each) for each in days)
    made = authority().issue_cert(*names, not_before=begins, not_after=ends)
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_path.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key_path.write_bytes(made.private_key_pem.bytes())
    return str(certificate_path), str(key_path)


def server_context() -> ssl.SSLContext:
    """A server's context, with a fresh certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*NAMES).configure_cert(context)
    return context


def trusting(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client's context that trusts the authority, perhaps for one TLS version only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


trusting_any = cache(trusting)
"""The same one for all: making it takes longer than a handshake."""


class BareClient:
    """A TLS client without a socket, controlled by the test."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=NAMES[0])
        self.shaken = False  # whether its handshake is over

    def step(self, wire: bytes = b"") -> bytes:
        """Continue the handshake; the next flight, at first the ClientHello."""
        self.incoming.write(wire)
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            self.shaken = True
        return self.outgoing.read()

    def seal(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def open(self, wire: bytes) -> bytes:
        self.incoming.write(wire)
        opened = b""
        with suppress(ssl.SSLWantReadError):
            while piece := self.tls.read(1 << 14):
                opened += piece
        return opened

    def goodbye(self) -> bytes:
        """A close_notify."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.outgoing.read()


def client_hello() -> bytes:
    """A ClientHello of OpenSSL."""
    return BareClient(trusting_any()).step()
