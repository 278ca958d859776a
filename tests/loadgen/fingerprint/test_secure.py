"""A ClientHello in pieces is still one: OpenSSL reads on until the last piece."""

import ssl

import pytest
from trio.testing import MockClock

from loadgen.fingerprint.probes.deadlines import in_bytes, in_records
from loadgen.net.tls import client_hello
from tests.support.certificates import server_context


@pytest.mark.parametrize("cut", [in_bytes, in_records])
async def test_openssl_waits_for_the_last_piece(cut: object, autojump_clock: MockClock) -> None:
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context().wrap_bio(heard, said, server_side=True)
    pieces = cut(client_hello("127.0.0.1"))  # type: ignore[operator]
    for piece in pieces:
        assert not said.pending
        heard.write(piece)
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
    assert said.pending, "the server's hello"
