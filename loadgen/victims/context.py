"""What all victims of a process share: where they go, when, and where they book.

Owns: the connections' addresses and the count of those that are connected. May not: know any kind of victim.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from loadgen.target import PER_SOURCE, USUAL, Endpoint, Target, client_context
from loadgen.victims.clock import Clock
from loadgen.victims.recorder import Recorder

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

#: Victims take source addresses behind all that a crowd of 100,000 could use.
_FIRST_SOURCE_INDEX: Final = 100_000


class Context:
    """The surroundings of a process's victims."""

    def __init__(self, target: Target, tag: str) -> None:
        self.target = target
        self.tag = tag  # tells this run's rooms from another's
        self.clock = Clock()
        self.recorder = Recorder()
        self.endpoint: Endpoint = USUAL
        self.timeout_seconds = 0.0
        self.stopped = False
        self.connected = 0  # victims
        self.failures = 0
        self.last_failure = ""

    def source(self, index: int) -> str | None:
        """An address of one's own: healthy users are no single greedy address."""
        return self.target.source(_FIRST_SOURCE_INDEX + index * PER_SOURCE)

    async def dial(self, index: int) -> Stream:
        """Connect from there."""
        target = self.target
        stream = await trio.open_tcp_stream(target.address, target.port, local_address=self.source(index))
        if not target.tls:
            return stream
        secure = trio.SSLStream(stream, client_context(), server_hostname=target.host, https_compatible=True)
        try:
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(secure)
            raise
        return secure

    def ended(self, reason: str) -> None:
        """Note that a victim's connection could not be made, or ended."""
        self.failures += 1
        self.last_failure = reason

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a victim as connected meanwhile."""
        self.connected += 1
        try:
            yield
        finally:
            self.connected -= 1
