"""A member that stops in the middle of a TLS handshake message."""

import ssl
from typing import Final

from loadgen import wire
from loadgen.client import Needs
from loadgen.personas import persona
from loadgen.personas._shapes import GENTLE_RETURN_SECONDS
from loadgen.personas._websocket import Lingerer, decode, join
from loadgen.target import describe_tls
from loadgen.tls import APPLICATION_DATA, HANDSHAKE, Tls13

#: A KeyUpdate is 5 bytes (RFC 8446 section 4.6.3): its type, three of length, and whether the other side shall follow.
HALF_KEY_UPDATE: Final = b"\x18\x00\x00\x01"

#: One is enough to find the fault, and each costs the generator 30 KB of OpenSSL.
CLIENTS: Final = 300


@persona
class TlsHalfMessage(Lingerer):
    """Joins a room over TLS 1.3 and sends the first 4 bytes of a KeyUpdate, then nothing, while others speak.

    OpenSSL wants the rest of the message before it writes: SSL_write fails with SSL_ERROR_WANT_READ. A server that does
    not expect this meets an exception at its next push to this member; in chatserver it ended the process. A plain port
    refuses the ClientHello.
    """

    __slots__ = ("_tls",)

    name = "tls-half-message"
    needs = Needs.CHAT
    below_tls = True
    usual_clients = CLIENTS
    returns_seconds = GENTLE_RETURN_SECONDS

    _tls: Tls13

    def opening(self) -> bytes:
        self._tls = Tls13()
        return self._tls.handshake()

    def on_data(self, data: bytes) -> None:
        """Finish the handshake and upgrade; then read what is inside."""
        try:
            heard = self._tls.decrypted(data)[0] if self._tls.established else self._go_on(data)
        except ssl.SSLError as error:
            raise wire.WireError(f"TLS: {describe_tls(error)}") from None
        if heard and self.fd >= 0:
            super().on_data(heard)

    def _go_on(self, data: bytes) -> bytes:
        """Go on with the handshake; after it, ask for the upgrade, and read what came with its end."""
        self.send(self._tls.handshake(data))
        if not self._tls.established:
            return b""
        self._seal_and_send(APPLICATION_DATA, super().opening())
        return self._tls.decrypted()[0]

    def on_open(self) -> None:
        self._seal_and_send(APPLICATION_DATA, join(0, self.room))

    def on_ping(self, payload: bytes) -> None:
        """Say nothing: it is in the middle of a message."""

    def on_text(self, frame: wire.Frame) -> None:
        """Wait for the join's answer; after that only a close is of interest."""
        if decode(frame).type == "joined":
            self.cohort.answers["joined"] += 1
            self._seal_and_send(HANDSHAKE, HALF_KEY_UPDATE)

    def _seal_and_send(self, content_type: int, content: bytes) -> None:
        try:
            record = self._tls.seal(content_type, content)
        except ImportError:
            self.cohort.engine.own_faults["tls-half-message needs the package cryptography"] += 1
        else:
            self.send(record)
