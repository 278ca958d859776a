"""What handlers work with: the parts, and the limits that concern them.

Owns: nothing; it is the list. May not: grow logic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chatserver.api.encoder import WireEncoder
from chatserver.api.pages import Pages
from chatserver.api.unwritten import UnwrittenShare
from chatserver.chat.hub import Hub
from chatserver.chat.ratelimit import PublishLimit
from chatserver.log.interface import Log

#: Seconds after which a client should try again when the log did not take its message.
LOG_RETRY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts."""

    hub: Hub
    log: Log
    pages: Pages
    encoder: WireEncoder
    publish_rate: PublishLimit
    clock: Callable[[], float]
    poll_wait_max: float  # s
    max_rooms: int  # that one connection may be in, or one poll may name
    unwritten: UnwrittenShare
    crowded: Callable[[], bool]  # whether many wait for the log already
    ping_interval: float  # s
    limits: Mapping[str, int | float]  # as `hello` tells them
    reconnect_ms: int  # what server-sent events tell the browser to wait
