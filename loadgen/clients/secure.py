"""TLS for the clients of an engine: all of them at an `https://` target, and attackers that have nothing else to play.

Owns: an `SSLObject` on memory buffers for each connection, some 30 KB a client. A client sees no difference but that
`on_connected` comes after the handshake.
"""

import ssl

from loadgen.clients.client import Client
from loadgen.clients.engine import Engine
from loadgen.net.answers import CLOSED
from loadgen.net.target import Target, describe_tls
from loadgen.net.tls import RECORD_BYTES, Link
from loadgen.net.wire import WireError


class SecureEngine(Engine):
    def __init__(self, target: Target, *, connect_rate: float) -> None:
        super().__init__(target, connect_rate=connect_rate)
        self.links: dict[Client, Link] = {}

    def send(self, client: Client, data: bytes) -> bool:
        """Encrypt the data, and write the records that the kernel takes now."""
        link = self.links.get(client)
        if link is None:
            return super().send(client, data)
        try:
            records = link.encrypted(data)
        except ssl.SSLError as error:
            client.fail(f"TLS: {describe_tls(error)}")
            return False
        return self.send_records(client, records)

    def send_records(self, client: Client, records: bytes) -> bool:
        """Send what is sealed already."""
        return super().send(client, records)

    def finish_sending(self, client: Client) -> None:
        """Send close_notify and FIN."""
        link = self.links.get(client)
        if link is not None:
            self.send_records(client, link.goodbye())
        super().finish_sending(client)

    def _first_bytes(self, client: Client) -> bytes:
        if client.below_tls or not (self._target.tls or client.needs_tls):
            return client.opening()
        link = self.links[client] = client.link(self._target.host)
        return link.handshake()

    def _connected(self, client: Client) -> None:
        if client in self.links:
            self._made(client)  # the TLS handshake has begun; `_unwrap` calls `on_connected`
        else:
            super()._connected(client)

    def _received(self, client: Client, data: bytes) -> None:
        link = self.links.get(client)
        if link is None:
            super()._received(client, data)
            return
        try:
            self._unwrap(client, link, data)
        except ssl.SSLError as error:
            raise WireError(f"TLS: {describe_tls(error)}") from None

    def _unwrap(self, client: Client, link: Link, records: bytes) -> None:
        was_established = link.established
        if not was_established:
            self.send_records(client, link.handshake(records))
            if not link.established:
                return
            records = b""  # OpenSSL has them already, with any data after the handshake
            opening = client.opening()
            if opening:
                self.send(client, opening)
            if client.fd >= 0:
                client.on_connected()
        data, over = link.decrypted(records)
        # A client that reads less than a record at a time paces itself by its reads, so it is called for each of them.
        if (data or client.read_bytes < RECORD_BYTES) and client.fd >= 0:
            client.on_data(data)
        if over and client.fd >= 0:
            client.on_hangup(CLOSED)
        elif reply := link.take_reply():
            self.send_records(client, reply)

    def close(self, client: Client) -> None:
        self.links.pop(client, None)
        super().close(client)
