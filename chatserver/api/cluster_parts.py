"""The parts by which a server works with the other processes of its chat.

Owns: making and running these parts. May not: let a message of another process end a task.

Workers of one machine know who is connected to the others, and share nothing else. With --shared, so do servers on many
machines, and they also have `SharedParts`.
"""

from collections.abc import Callable
from hashlib import blake2b

import trio

from chatserver.api.pipelines.shared import SharedSearch
from chatserver.api.shared_rates import SharedWriteLimits
from chatserver.chat.cluster import Cluster
from chatserver.chat.moderation import Moderation
from chatserver.log.interface import Identity
from chatserver.settings.fields import Settings
from chatserver.shared import open_shards
from chatserver.shared.datagrams import Datagrams
from chatserver.shared.shards import Shards


class OtherProcesses:
    """The messages of a cluster on a `bus`. `faulted` is called in an except clause for a fault of ours."""

    def __init__(
        self, bus: Datagrams | Shards, cluster: Cluster, moderation: Moderation, faulted: Callable[[object], None]
    ) -> None:
        self._bus = bus
        self._cluster = cluster
        self._moderation = moderation
        self._faulted = faulted

    def _receive(self, message: bytes) -> None:
        try:
            for kicked in self._cluster.receive(message):
                self._moderation.kick(kicked.user, kicked.room, kicked.reason)
        except Exception:  # noqa: BLE001
            self._faulted(self._cluster)

    async def run(self) -> None:
        """Exchange messages with the other processes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bus.run, self._receive)
            nursery.start_soon(self._cluster.run)


class SharedParts:
    """What processes share with --shared. `identity` is the log's, since all processes on one log are one chat.

    So is its epoch: a restored copy has the same secret, and search results of an old primary may have lost messages.
    """

    def __init__(self, settings: Settings, identity: Identity) -> None:
        epoch = identity.epoch.encode()
        chat = blake2b(epoch, digest_size=6, key=identity.secret, person=b"shared").hexdigest()
        self.shards = open_shards(settings.shared, chat)
        self.search = SharedSearch(self.shards)
        self.write_limits = SharedWriteLimits(settings, self.shards)
