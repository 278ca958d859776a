"""Troubles for tests of connections: more bytes than a kernel accepts, and faults in a handler."""

from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.net.transport import PlainTransport

BIG = b"".join(b"%07d\n" % number for number in range(12_000))  # 96 KB in which every place is different


def state_of(connection: Connection) -> State:
    """Its state; a call, because mypy assumes that an attribute stays the same."""
    return connection.state


def is_alive(connection: Connection) -> bool:
    """The same for `alive`."""
    return connection.alive


def fail(connection: Connection, *_: object) -> None:
    raise RuntimeError("a bug of ours")


class BrokenTransport(PlainTransport):
    def offer(self, connection: Connection, data: bytes) -> int:
        raise RuntimeError("a bug of ours")
