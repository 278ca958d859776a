"""What a connection carries in the states of HTTP: the contexts that no layer below knows.

Owns: the structs. May not: act. Held polls carry chat's `PollWaiter`, event streams its `Member`.
"""

import msgspec

from chatserver.chat.member import PollWaiter
from chatserver.chat.room import Room
from chatserver.protocol.body import Body


class Upload(msgspec.Struct, gc=False, eq=False):
    """`BODY`: a request whose body is still coming.

    The head is kept as it came and parsed once more at the end: parsed, it is six times as large, and a peer that sends
    a body slowly enough to get here may be there 8,000 times.
    """

    head: bytes
    body: Body
    started: int  # tick


class Exchange(msgspec.Struct, gc=False, eq=False):
    """`SERVING`: a request that is being answered."""

    keep_alive: bool
    head_only: bool
    headers: tuple[tuple[str, str], ...] = ()  # of any answer to it, besides the answer's own
    room: Room | None = None  # the one it published into


class PausedPublisher(msgspec.Struct, gc=False, eq=False):
    """`PAUSED`: the room whose members are to be told first."""

    room: Room


class PageWaiter(PollWaiter, gc=False, eq=False):
    """A held poll of a page of an allowed origin, whose answer needs more headers; any other does without the field."""

    headers: tuple[tuple[str, str], ...] = ()
