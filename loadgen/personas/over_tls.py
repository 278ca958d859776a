"""Attacks in the layer of TLS: handshakes that stop, half a message, key updates without end."""

from typing import Final, cast

from loadgen.clients.client import Attacker, Needs
from loadgen.net import wire
from loadgen.net.tls import HANDSHAKE, KEY_UPDATE, Tls13, client_hello
from loadgen.personas import persona
from loadgen.personas._requests import open_head
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

    needs_tls = True
    returns_seconds = GENTLE_RETURN_SECONDS
    link = Tls13

    @property
    def tls(self) -> Tls13:
        return cast("Tls13", self.cohort.engine.links[self])


@persona
class TlsHalfMessage(_HandSealed, Lingerer):
    """Joins a room over TLS 1.3 and sends the first 4 bytes of a KeyUpdate, then nothing, while others speak.

    OpenSSL wants the rest of the message before it writes, so a server that does not expect SSL_ERROR_WANT_READ gets an
    exception at its next push to this member.
    """

    needs = Needs.CHAT
    usual_clients = 300  # one is enough to find the fault, and each costs the generator 30 KB for OpenSSL

    def on_open(self) -> None:
        self.send(join(0, self.room))

    def on_ping(self, payload: bytes) -> None:
        """Send nothing: it is in the middle of a TLS message."""

    def on_text(self, frame: wire.Frame) -> None:
        """Send the half message after the join's answer; later messages do not count."""
        if decode(frame).type == "joined":
            self.cohort.answers["joined"] += 1
            self.cohort.engine.send_raw(self, self.tls.seal(HANDSHAKE, KEY_UPDATE[:4]))


#: Key updates in one block: they cost the generator 60 us each, and a server 10.
BLOCK_UPDATES: Final = 16


@persona
class TlsKeyUpdates(_HandSealed, Flooder):
    """Changes its key again and again over TLS 1.3, with a byte of a request's head after each change.

    OpenSSL allows it, and each costs a derivation of keys. A server that counts the records without data since the last
    byte never counts two, and a server that counts bytes sees hardly any.
    """

    usual_clients = 100  # more would be late, for what they cost the generator

    def opening(self) -> bytes:
        return open_head(self) + b"X-Slow: "

    def on_connected(self) -> None:
        self.hold()
        self.on_drained()

    def on_drained(self) -> None:
        """Send the next updates, at most one block each tick, until the server has answered."""
        if self.answered:
            return
        updates = b"".join(self._update() for _ in range(BLOCK_UPDATES))
        if self.cohort.engine.send_raw(self, updates):
            self.wake_in(0.0)

    def _update(self) -> bytes:
        record = self.tls.seal(HANDSHAKE, KEY_UPDATE)
        self.tls.change_key()
        return record + self.tls.encrypted(b"x")
