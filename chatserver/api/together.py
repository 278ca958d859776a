"""The parts by which a server works with the other processes of its chat under --shared.

Owns: making and running these parts. May not: exist without the flag, or let a message of another process end a task.

Without the flag, the workers of one machine have `Nearby`: they know who is connected to the others, and share nothing
else.
"""

from collections.abc import Callable
from hashlib import blake2b

import trio

from chatserver.api.pipelines.shared import SharedSearch
from chatserver.api.services import Services
from chatserver.api.tally import PublishTally
from chatserver.chat.elsewhere import Elsewhere
from chatserver.chat.hub import Hub
from chatserver.shared import open_shards
from chatserver.shared.datagrams import Datagrams


class Together:
    """See the module. `secret` is the log's, since all processes on one log are one chat."""

    def __init__(self, url: str, secret: bytes, hub: Hub, clock: Callable[[], float]) -> None:
        self.shards = open_shards(url, blake2b(secret, digest_size=6, person=b"shared").hexdigest())
        self.elsewhere = Elsewhere(hub, self.shards, clock)
        self.search = SharedSearch(self.shards, clock)
        self._clock = clock
        self.tally: PublishTally

    def attach(self, services: Services, faulted: Callable[[object], None]) -> None:
        """Connect the services to the shared parts. `faulted` is called in an except clause for a fault of ours."""
        self.shards.heard = _hearing(self.elsewhere, services, faulted)
        self.tally = PublishTally(services.publish_limit, self.shards, self._clock)
        services.search_results.forgotten = self.search.results.forget

    async def run(self) -> None:
        """Exchange messages with the other processes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.shards.run)
            nursery.start_soon(self.elsewhere.run)
            nursery.start_soon(self.tally.run)


class Nearby:
    """Presence on the other workers of this machine."""

    def __init__(self, carrier: Datagrams, hub: Hub) -> None:
        self._carrier = carrier
        self.elsewhere = Elsewhere(hub, carrier)

    def attach(self, services: Services, faulted: Callable[[object], None]) -> None:
        """As `Together.attach`."""
        self._carrier.heard = _hearing(self.elsewhere, services, faulted)

    async def run(self) -> None:
        """Exchange messages with the other processes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carrier.run)
            nursery.start_soon(self.elsewhere.run)


def _hearing(elsewhere: Elsewhere, services: Services, faulted: Callable[[object], None]) -> Callable[[bytes], None]:
    """Make the function that handles a message of another process."""
    elsewhere.heard_kick = services.moderation.kick

    def hear(message: bytes) -> None:
        try:
            elsewhere.heard(message)
        except Exception:  # noqa: BLE001
            faulted(elsewhere)

    return hear
