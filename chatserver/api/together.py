"""What a server shares with the other processes of its chat, when --shared tells it to: put together, and run.

Owns: which of the parts exist then. May not: be there without the flag, or let what another process says end anything.
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


class Together:
    """See the module. `secret` is the log's: all processes on one log are one chat."""

    def __init__(self, url: str, secret: bytes, hub: Hub, clock: Callable[[], float]) -> None:
        self.shards = open_shards(url, blake2b(secret, digest_size=6, person=b"shared").hexdigest())
        self.elsewhere = Elsewhere(hub, self.shards, clock)
        self.search = SharedSearch(self.shards, clock)
        self._clock = clock
        self.tally: PublishTally

    def attach(self, services: Services, faulted: Callable[[object], None]) -> None:
        """Give the services their share. `faulted` is called in the except clause for a fault of ours."""

        def hear(message: bytes) -> None:
            try:
                self.elsewhere.heard(message)
            except Exception:  # noqa: BLE001
                faulted(self.elsewhere)

        self.shards.heard = hear
        self.elsewhere.heard_kick = services.moderation.kick
        self.tally = PublishTally(services.publish_limit, self.shards, self._clock)
        services.search_results.forgotten = self.search.results.forget

    async def run(self) -> None:
        """Keep in touch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.shards.run)
            nursery.start_soon(self.elsewhere.run)
            nursery.start_soon(self.tally.run)
