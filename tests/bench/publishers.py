"""Clients of a `Crowd` that publish, or change messages, as fast as they are acknowledged.

Owns: what they send, and how many acknowledgements came. `publishing` and `measure` let them work for a while.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.bench.clients import Client, ClosedError, Crowd, hear
from tests.bench.processes import Process
from tests.bench.wire import TEXT
from tests.support.peers import say


class Publisher:
    """Sends the same frame over a WebSocket; while it is `running`, once more for each acknowledgement."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self.running = False
        self.acknowledged = 0
        self.done: set[Client] = set()  # clients that were acknowledged after `running` ended

    def frames(self, count: int) -> bytes:
        return self._frame * count

    def __call__(self, client: Client, data: bytes) -> None:
        acks = 0
        for payload in hear(client, data):
            if payload.startswith(b'{"type":"error"'):
                raise RuntimeError(f"a publish was refused: {payload.decode()}")
            acks += b'"ack"' in payload
        if acks:
            self._acknowledge(client, acks)

    def _acknowledge(self, client: Client, count: int) -> None:
        self.acknowledged += count
        if self.running:
            client.socket.send(self.frames(count))
        else:
            self.done.add(client)


class Poster(Publisher):
    """The same over HTTP: one request after the other, on a connection that is kept."""

    def __call__(self, client: Client, data: bytes) -> None:
        client.inbox += data
        if not client.inbox.endswith(b"}\n"):
            if not data:
                raise ClosedError("the server closed the connection of a publisher")
            return
        if not client.inbox.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"a publish was refused: {client.inbox!r}")
        client.inbox = b""
        self._acknowledge(client, 1)


class Changer(Publisher):
    """Edits the first `changed` messages in turn, each time to another text, or adds reactions to them.

    In every second turn it removes those reactions.
    """

    def __init__(self, kind: str, changed: int) -> None:
        super().__init__(b"")
        self._kind = kind
        self._changed = changed
        self._count = 0

    def frames(self, count: int) -> bytes:
        return b"".join([self._next() for _ in range(count)])

    def _next(self) -> bytes:
        turn, target = divmod(self._count, self._changed)
        self._count += 1
        if self._kind == "edit":
            return say(type="edit", id=2, room="bench", offset=target + 1, text=f"{TEXT} {turn}")
        return say(type="react", id=2, room="bench", offset=target + 1, emoji="👍", on=turn % 2 == 0)


@contextmanager
def publishing(
    crowd: Crowd, publisher: Publisher, clients: Sequence[Client], *, patience: float = 5.0
) -> Iterator[None]:
    """Each client has one publish under way during the block; after it the last ones are waited for."""
    publisher.running = True
    for client in clients:
        client.socket.send(publisher.frames(1))
    yield
    publisher.running = False
    publisher.done.clear()
    while late := [client for client in clients if client not in publisher.done]:
        if not crowd.turn(patience):
            host, port = late[0].socket.getsockname()
            raise TimeoutError(
                f"{len(late)} of {len(clients)} publishes were not acknowledged in {patience:g} s without any event;"
                f" the first is that of {host}:{port}, which has received {late[0].inbox!r} of an answer"
            )


def measure(
    server: Process, crowd: Crowd, publisher: Publisher, clients: Sequence[Client], seconds: float
) -> tuple[float, float]:
    """µs of the server's CPU for a publish, and publishes a second."""
    cpu, start, before = server.cpu(), time.perf_counter(), publisher.acknowledged
    with publishing(crowd, publisher, clients):
        crowd.run(seconds)
        rate = (publisher.acknowledged - before) / (time.perf_counter() - start)
    return (server.cpu() - cpu) / (publisher.acknowledged - before) * 1e6, rate
