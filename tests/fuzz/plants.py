"""Where the machine plants bugs in the server: by name, the part and the method that will raise.

Owns: the places. May not: plant.
"""

from collections.abc import Callable
from types import MethodType
from typing import cast

from chatserver.net.states import State
from chatserver.parts import Parts

Plants = dict[str, Callable[[Parts], tuple[object, str]]]
#: A fault here costs no more than a connection.
PLANTS: Plants = {
    "route": lambda parts: (parts.exchanges._routes, "handle"),
    "hear": lambda parts: (parts.websockets._conversation, "handle"),
    "acknowledge": lambda parts: (parts.websockets._conversation, "_acknowledge"),
    "held": lambda parts: (parts.services.pages, "held_body"),
    "park": lambda parts: (parts.hub, "park"),
    "attach": lambda parts: (parts.hub, "attach"),
    "page": lambda parts: (parts.services.pages, "after_start"),
    "frames": lambda parts: (parts.connections.handlers[State.OPEN], "received"),
    "body": lambda parts: (parts.connections.handlers[State.BODY], "received"),
    "resume": lambda parts: (parts.connections.handlers[State.PAUSED], "resumed"),
    "writable": lambda parts: (parts.hub, "writable"),
    "end": lambda parts: (cast(MethodType, parts.moderation.apply).__self__, "_end"),
    "give": lambda parts: (parts.hub.broadcaster, "give"),
}
#: A fault here may cost a room what is under way in it.
PLANTS_IN_ROOMS: Plants = {
    "visit": lambda parts: (parts.hub.broadcaster, "_visit"),
    "tell": lambda parts: (parts.hub.broadcaster, "_tell_presence"),
    "keep": lambda parts: (parts.hub.broadcaster, "_keep_rest"),
    "news": lambda parts: (parts.hub, "_take_in"),
    "house": lambda parts: (parts.hub.housekeeping, "_end_leases"),
}
