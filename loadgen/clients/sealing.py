"""TLS between the engine and a client, which sees no difference but that `on_connected` comes after the handshake.

Owns: the links of those that are within TLS, some 30 KB each, and the order of handshake, data and end. May not: make a
system call; the engine reads and writes.
"""

from __future__ import annotations

import ssl

from loadgen.clients.client import Client
from loadgen.net.answers import CLOSED
from loadgen.net.target import Target, describe_tls
from loadgen.net.tls import RECORD_BYTES, Link
from loadgen.net.wire import WireError


class Sealing:
    def __init__(self, target: Target) -> None:
        self.links: dict[Client, Link] = {}  # not an attribute of the client, because most have none
        self._target = target

    def first_bytes(self, client: Client) -> bytes:
        """Return what a new connection begins with: the client's opening, or a handshake before it."""
        if client.below_tls or not (self._target.tls or client.needs_tls):
            return client.opening()
        link = self.links[client] = client.link(self._target.host)
        return link.handshake()

    def encrypted(self, client: Client, data: bytes) -> bytes:
        """Seal what a client within TLS sends."""
        try:
            return self.links[client].encrypted(data)
        except ssl.SSLError as error:
            raise _garbled(error) from None

    def take(self, client: Client, records: bytes) -> None:
        """Give a client within TLS what it was sent, and its connection what belongs to the handshake."""
        try:
            self._take(client, self.links[client], records)
        except ssl.SSLError as error:
            raise _garbled(error) from None

    def _take(self, client: Client, link: Link, records: bytes) -> None:
        engine = client.cohort.engine
        was_established = link.established
        if not was_established:
            engine.send_raw(client, link.handshake(records))
            if not link.established:
                return
            records = b""  # OpenSSL has them already, with any data after the handshake
            if opening := client.opening():
                engine.send(client, opening)
            if client.fd >= 0:
                client.on_connected()
        data, over = link.decrypted(records)
        # A client that reads less than a record at a time paces itself by its reads, so it is called for each of them.
        if (data or client.read_bytes < RECORD_BYTES) and client.fd >= 0:
            client.on_data(data)
        if over and client.fd >= 0:
            client.on_hangup(CLOSED)
        elif reply := link.take_reply():
            engine.send_raw(client, reply)


def _garbled(error: ssl.SSLError) -> WireError:
    return WireError(f"TLS: {describe_tls(error)}")
