"""A peer that does only what it is told: sends a part, receives a part, ends or vanishes.

Owns: one client's socket, its TLS if it has any, and the bytes that it has not sent yet. May not: wait, or do anything
by itself, so that a test can decide between any two bytes.
"""

import contextlib
import socket
import ssl

import trio

from tests.fuzz.hearing import Hearing
from tests.support.certificates import BareClient
from tests.support.parked import reset

#: The receive buffer of a client with a small window; the kernel rounds it up.
SMALL_WINDOW = 2304


class Puppet:
    """One client. `open` until `close`; the server may have closed before."""

    def __init__(
        self, address: tuple[str, int], source: str, *, small: bool, tls: ssl.SSLContext | None, header: bytes = b""
    ) -> None:  # fmt: skip
        self.open = True
        self.hearing = Hearing()
        self.ended = False  # whether the server's end was heard
        self.greedy = False  # whether it takes at once whatever it is sent
        self.frames = False  # whether it believes to speak WebSocket
        self._unsent = bytearray(header)  # of a balancer
        self._unsealed = b""  # said before the handshake was over
        self._socket = socket.socket()
        if small:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
        self._socket.bind((source, 0))
        with contextlib.suppress(ConnectionRefusedError):  # the server has stopped: then this one never hears anything
            self._socket.connect(address)
        self._socket.setblocking(False)
        self.end_point: tuple[str, int] = self._socket.getsockname()
        self._tls = Tls(tls) if tls is not None else None
        if self._tls is not None:
            self._flush(self._tls)

    def say(self, wire: bytes) -> None:
        """Queue bytes to be sent, encrypted under TLS."""
        if self._tls is None:
            self._unsent += wire
        elif self._tls.shaken:
            self._unsent += self._tls.seal(wire)
        else:
            self._unsealed += wire

    def scrawl(self, wire: bytes) -> None:
        """Queue bytes without encryption."""
        self._unsent += wire

    def send(self, most: int | None = None) -> None:
        """Send at most `most` queued bytes, or as many as the kernel takes."""
        if not self.open:
            return
        part = bytes(self._unsent if most is None else self._unsent[:most])
        try:
            sent = self._socket.send(part) if part else 0
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # the server is gone
            return
        del self._unsent[:sent]

    def hear(self, most: int = 1 << 20, *, polite: bool = True) -> bool:
        """Take at most so many bytes; a polite client answers pings and the close, and goes on with its handshake.

        Returns whether there was anything.
        """
        wanted = most
        while self.open and most > 0 and not self.ended:
            try:
                data = self._socket.recv(min(most, 65_536))
            except BlockingIOError:
                break
            except OSError:
                self.ended = True
                break
            self.ended = not data
            most -= len(data)
            self.hearing.hear(data if self._tls is None else self._open(self._tls, data))
        replies, self.hearing.replies = self.hearing.replies, b""
        if polite and replies:
            self.say(replies)
        return most < wanted

    def _flush(self, tls: "Tls") -> None:
        self._unsent += tls.reply
        tls.reply = b""

    def _open(self, tls: "Tls", data: bytes) -> bytes:
        plain = tls.take(data)
        self._flush(tls)
        if tls.shaken and self._unsealed:
            self._unsent += tls.seal(self._unsealed)
            self._unsealed = b""
        return plain

    @property
    def caught_up(self) -> bool:
        """Whether it is connected and has read everything."""
        if not self.open or self.ended:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False  # the server is gone
        return False

    def acknowledge(self) -> None:
        """Let the kernel send its delayed acknowledgements now: their 40 ms are not of the world's clock."""
        if self.open:
            acknowledge(self._socket)

    def farewell(self) -> None:
        """Queue a close_notify, if the TLS handshake is over."""
        if self._tls is not None and self._tls.shaken:
            self._unsent += self._tls.goodbye()

    def end(self) -> None:
        """Send FIN."""
        if self.open:
            with contextlib.suppress(OSError):  # the server is gone
                self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, abort: bool = False) -> None:
        """Close, with RST if it aborts or has unread data."""
        if self.open:
            self.open = False
            if abort:
                reset(self._socket)
            self._socket.close()


def acknowledge(connected: socket.socket | trio.socket.SocketType) -> None:
    """TCP_QUICKACK (tcp(7)) sends an acknowledgement that is due at once."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Tls(BareClient):
    """A client's side of TLS that hears nothing more after an error of OpenSSL, such as an alert."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context)
        self.reply = self.step()  # what OpenSSL wants to have sent
        self._broken = False

    def take(self, data: bytes) -> bytes:
        """The plaintext of received bytes."""
        plain = b""
        if self._broken:
            return plain
        try:
            if not self.shaken:
                self.reply += self.step(data)
                data = b""
            if self.shaken:
                plain = self.open(data)
        except ssl.SSLError:
            self._broken = True
        self.reply += self.outgoing.read()
        return plain

    def seal(self, data: bytes) -> bytes:
        """Records with this data; none after close_notify."""
        try:
            return super().seal(data)
        except ssl.SSLError:
            self._broken = True
            return b""
