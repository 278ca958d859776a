"""Attacks in the layer of TLS: handshakes that stop, half a message, key updates without end."""

import ssl
from typing import Final

from loadgen.clients.client import Attacker, Needs
from loadgen.net import wire
from loadgen.net.target import describe_tls
from loadgen.net.tls import APPLICATION_DATA, HANDSHAKE, KEY_UPDATE, Tls13, client_hello
from loadgen.personas import persona
from loadgen.personas._requests import open_head, upgrade
from loadgen.personas._shapes import GENTLE_RETURN_SECONDS, Dripper, Flooder
from loadgen.personas._websocket import Lingerer, decode, join


@persona
class SlowTls(Dripper):
    """Sends a TLS ClientHello, half of the clients at a byte a second and half all at once, then nothing.

    The handshake comes before all HTTP deadlines: asyncio gives it 60 s, Node 120 s. A whole ClientHello costs the
    server key agreement, and the memory of its result.
    """

    below_tls = True
    returns_seconds = GENTLE_RETURN_SECONDS  # a plain port refuses its first byte

    def opening(self) -> bytes:
        return client_hello() if self.number % 2 else client_hello()[:1]

    def drop(self, number: int) -> bytes:
        return b"" if self.number % 2 else client_hello()[number + 1 : number + 2]


class _HandSealed(Attacker):
    """Seals its records by hand, so that it can send any of TLS 1.3."""

    below_tls = True
    needs_tls = True
    returns_seconds = GENTLE_RETURN_SECONDS

    _tls: Tls13  # a slot of each persona: two bases with slots cannot be combined

    def opening(self) -> bytes:
        self._tls = Tls13()
        return self._tls.handshake()

    def on_connected(self) -> None:
        """Wait for the handshake."""

    def on_established(self) -> None:
        """React to the end of the handshake."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        try:
            heard = self._tls.decrypted(data)[0] if self._tls.established else self._go_on(data)
        except ssl.SSLError as error:
            raise wire.WireError(f"TLS: {describe_tls(error)}") from None
        if heard and self.fd >= 0:
            super().on_data(heard)

    def _go_on(self, data: bytes) -> bytes:
        """Continue the handshake, and return the data that came behind it."""
        self.send(self._tls.handshake(data))
        if not self._tls.established:
            return b""
        self.on_established()
        return self._tls.decrypted()[0]


@persona
class TlsHalfMessage(_HandSealed, Lingerer):
    """Joins a room over TLS 1.3 and sends the first 4 bytes of a KeyUpdate, then nothing, while others speak.

    OpenSSL wants the rest of the message before it writes, so a server that does not expect SSL_ERROR_WANT_READ gets an
    exception at its next push to this member.
    """

    __slots__ = ("_tls",)

    needs = Needs.CHAT
    usual_clients = 300  # one is enough to find the fault, and each costs the generator 30 KB for OpenSSL

    def on_established(self) -> None:
        self.send(self._tls.seal(APPLICATION_DATA, upgrade(self)))

    def on_open(self) -> None:
        self.send(self._tls.seal(APPLICATION_DATA, join(0, self.room)))

    def on_ping(self, payload: bytes) -> None:
        """Send nothing: it is in the middle of a TLS message."""

    def on_text(self, frame: wire.Frame) -> None:
        """Send the half message after the join's answer; later messages do not count."""
        if decode(frame).type == "joined":
            self.cohort.answers["joined"] += 1
            self.send(self._tls.seal(HANDSHAKE, KEY_UPDATE[:4]))


#: Key updates in one block: they cost the generator 60 us each, and a server 10.
BLOCK_UPDATES: Final = 16


@persona
class TlsKeyUpdates(_HandSealed, Flooder):
    """Changes its key again and again over TLS 1.3, with a byte of a request's head after each change.

    OpenSSL allows it, and each costs a derivation of keys. A server that counts the records without data since the last
    byte never counts two, and a server that counts bytes sees hardly any.
    """

    __slots__ = ("_tls",)

    usual_clients = 100  # more would be late, for what they cost the generator

    def on_established(self) -> None:
        self.hold()
        self.send(self._tls.seal(APPLICATION_DATA, open_head(self) + b"X-Slow: "))
        self.on_drained()

    def on_drained(self) -> None:
        """Send the next updates, at most one block each tick, until the server has answered."""
        if not self.answered and self.send(b"".join(self._update() for _ in range(BLOCK_UPDATES))):
            self.wake_in(0.0)

    def _update(self) -> bytes:
        record = self._tls.seal(HANDSHAKE, KEY_UPDATE)
        self._tls.change_key()
        return record + self._tls.seal(APPLICATION_DATA, b"x")
