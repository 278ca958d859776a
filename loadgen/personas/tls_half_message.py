"""Half a message below everything that a chat looks at."""

import ssl
from typing import Final

from loadgen import wire
from loadgen.client import Needs
from loadgen.personas import persona
from loadgen.personas._flood import Intruder
from loadgen.personas._tls13 import APPLICATION_DATA, HANDSHAKE, Tls13
from loadgen.personas._websocket import decode, join
from loadgen.target import describe_tls

#: A KeyUpdate is 5 bytes (RFC 8446 section 4.6.3): its type, three of length, and whether the other side shall follow.
HALF_KEY_UPDATE: Final = b"\x18\x00\x00\x01"

#: A plain port refuses it at its first byte, and a mended server at the next message: coming back is not the attack.
RETURNS_SECONDS: Final = 10.0

#: One is enough to end a server that has the fault; what many of them cost is 30 KB of OpenSSL's here, each.
CLIENTS: Final = 300


@persona
class TlsHalfMessage(Intruder):
    """Joins a room over TLS 1.3 and sends the first 4 bytes of a KeyUpdate, then nothing, while others speak.

    OpenSSL wants the rest before it writes anything: SSL_write asks for a read. A server that takes writing for
    something that cannot ask meets an exception wherever it next has something to say to this member; in chatserver
    that ended the process. On a plain port it is a ClientHello, and refused.
    """

    __slots__ = ("_tls",)

    name = "tls-half-message"
    needs = Needs.CHAT
    below_tls = True
    usual_clients = CLIENTS
    returns_seconds = RETURNS_SECONDS

    _tls: Tls13

    def opening(self) -> bytes:
        """Say hello, as TLS has it."""
        self._tls = Tls13()
        return self._tls.handshake()

    def on_data(self, data: bytes) -> None:
        """Finish the handshake and upgrade; then read what is inside."""
        try:
            heard = self._tls.open(data) if self._tls.established else self._go_on(data)
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
        return self._tls.open()

    def on_open(self, head: wire.Head) -> None:
        """Join."""
        self._seal_and_send(APPLICATION_DATA, join(0, self.room))

    def hear(self, data: bytes) -> None:
        """Wait for the join's answer; after that only a close is of interest, and pings are not answered."""
        frames, self.unread = wire.read_frames(self.unread + data)
        for frame in frames:
            if frame.opcode == wire.CLOSE:
                self.closed(frame.close_code)
                return
            if frame.opcode == wire.TEXT and decode(frame).type == "joined":
                self.cohort.answers["joined"] += 1
                self._seal_and_send(HANDSHAKE, HALF_KEY_UPDATE)

    def _seal_and_send(self, content_type: int, content: bytes) -> None:
        try:
            record = self._tls.seal(content_type, content)
        except ImportError:
            self.cohort.engine.own_faults["tls-half-message needs the package cryptography"] += 1
        else:
            self.send(record)
