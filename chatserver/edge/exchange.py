"""What is kept of one HTTP exchange while it is under way.

Owns: the structs that stand in `Connection.session` for HTTP. May not: act.
"""

import msgspec

from chatserver.chat.room import Room
from chatserver.protocol.body import Body


class LongHead(msgspec.Struct, gc=False, eq=False):
    """The count of a request head that is not whole (phase HEAD) and long enough to be counted; the inbox has it."""

    counted: int = 0  # see net/unfinished.py


class Upload(msgspec.Struct, gc=False, eq=False):
    """A request whose body is still coming (phase BODY).

    The head is kept as it came and parsed once more at the end: parsed, it is six times as large, and whoever sends a
    body slowly enough to get here may be there 8,000 times.
    """

    head: bytes
    body: Body
    started: int  # tick
    counted: int = 0  # see net/unfinished.py


class Exchange(msgspec.Struct, gc=False, eq=False):
    """A request that is being answered (phase SERVING, or on its way there)."""

    keep_alive: bool
    head_only: bool
    room: Room | None = None  # the one it published into
