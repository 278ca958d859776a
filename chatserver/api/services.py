"""What handlers work with: the parts, and the limits that concern them.

Owns: nothing; it is the list. May not: grow logic.
"""

from dataclasses import dataclass

from chatserver.api.encoder import WireEncoder
from chatserver.api.limits import EmptyRoomQuota, PublishLimit
from chatserver.api.pages import Pages
from chatserver.chat.hub import Hub
from chatserver.log.interface import Log
from chatserver.settings.fields import Settings

#: Seconds after which a client should try again when the log did not take its message.
LOG_RETRY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts."""

    hub: Hub
    log: Log
    pages: Pages
    encoder: WireEncoder
    publish_limit: PublishLimit
    empty_rooms: EmptyRoomQuota
    settings: Settings
