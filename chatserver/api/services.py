"""What handlers work with: the parts, and the quota of empty rooms that all transports have alike.

Owns: the list, and that rule. May not: answer.
"""

from dataclasses import dataclass

from chatserver.api.encoder import WireEncoder
from chatserver.api.pages import Pages
from chatserver.api.publishing import PublishLimit
from chatserver.chat.hub import Hub
from chatserver.log.interface import Log
from chatserver.settings.fields import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts."""

    hub: Hub
    log: Log
    pages: Pages
    encoder: WireEncoder
    publish_limit: PublishLimit
    settings: Settings

    def refuse_empty_rooms(self, count: int) -> str | None:
        """The refusal of so many rooms in which nothing was ever said, for one connection or one poll; None if allowed.

        Names are free: a hundred of them, made up, are a hundred rooms to keep, thirty times what a connection costs.
        The number is the same for everybody, always: what an honest client may do does not depend on strangers.
        """
        most = self.settings.max_empty_rooms
        if count <= most:
            return None
        return f"{most} rooms in which nobody has written are all that one may be in: write in one first"
