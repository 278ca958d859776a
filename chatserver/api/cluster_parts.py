"""The parts by which a server works with the other processes of its chat under --shared.

Owns: making and running these parts. May not: exist without the flag, or let a message of another process end a task.

Without the flag, the workers of one machine have `WorkerParts`: they know who is connected to the others, and share
nothing else.
"""

from collections.abc import Callable
from hashlib import blake2b

import trio

from chatserver.api.pipelines.results import ResultCache
from chatserver.api.pipelines.shared import SharedSearch
from chatserver.api.services import WriteLimits
from chatserver.api.shared_rates import SharedRates
from chatserver.chat.cluster import Cluster
from chatserver.chat.hub import Hub
from chatserver.chat.moderation import Moderation
from chatserver.shared import open_shards
from chatserver.shared.datagrams import Datagrams
from chatserver.shared.shards import Shards


class WorkerParts:
    """Presence on the other processes of a `bus`. `faulted` is called in an except clause for a fault of ours."""

    def __init__(
        self, bus: Datagrams | Shards, hub: Hub, moderation: Moderation, faulted: Callable[[object], None]
    ) -> None:  # fmt: skip
        self._bus = bus
        self._faulted = faulted
        self.cluster = Cluster(hub, bus.tell, on_kick=moderation.kick)

    def _receive(self, message: bytes) -> None:
        try:
            self.cluster.receive(message)
        except Exception:  # noqa: BLE001
            self._faulted(self.cluster)

    async def run(self) -> None:
        """Exchange messages with the other processes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bus.run, self._receive)
            nursery.start_soon(self.cluster.run)


class SharedParts(WorkerParts):
    """See the module. `secret` is the log's, since all processes on one log are one chat."""

    def __init__(
        self, url: str, secret: bytes, hub: Hub, moderation: Moderation, faulted: Callable[[object], None], *,
        limits: WriteLimits, results: ResultCache,
    ) -> None:  # fmt: skip
        self.shards = open_shards(url, blake2b(secret, digest_size=6, person=b"shared").hexdigest())
        super().__init__(self.shards, hub, moderation, faulted)
        self.search = SharedSearch(self.shards)
        self.rates = SharedRates(limits, self.shards)
        results.forgotten = self.search.results.forget

    async def run(self) -> None:
        """See `WorkerParts.run`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().run)
            nursery.start_soon(self.rates.run)
