"""What we ask of the server, in any transport: over a WebSocket these are the frames, as JSON.

Owns: the shapes. May not: know how they are sent.
"""

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Something asked about a room. `id` is given when it is sent, and comes back with the answer."""

    id: int = 0
    room: str


class Join(Request, frozen=True, kw_only=True, tag="join"):
    """Be told what happens in a room, after a cursor, or from the latest messages on."""

    after: str | None = None


class Leave(Request, frozen=True, kw_only=True, tag="leave"):
    """Be told no more."""


class History(Request, frozen=True, kw_only=True, tag="history"):
    """Read what was said after or before a cursor; with neither, the latest."""

    after: str | None = None
    before: str | None = None
    limit: int


class Members(Request, frozen=True, kw_only=True, tag="members"):
    """Ask who is there."""


class Read(Request, frozen=True, kw_only=True, tag="read"):
    """Keep how far we have read."""

    offset: int


class Typing(Request, frozen=True, kw_only=True, tag="typing"):
    """Tell the others that we are typing. Has no answer."""


class Auth(Request, frozen=True, kw_only=True, tag="auth"):
    """Be the user of this token from now on. Of no room."""

    room: str = ""
    token: str


class Write(Request, frozen=True, kw_only=True):
    """Something that becomes a record. With the same key it becomes one record, however often it is sent."""

    key: str = ""


class Publish(Write, frozen=True, kw_only=True, tag="publish"):
    """Say something."""

    text: str
    reply_to: int | None = None
    mentions: tuple[str, ...] = ()


class Edit(Write, frozen=True, kw_only=True, tag="edit"):
    """Give a message of ours another text."""

    offset: int
    text: str


class Delete(Write, frozen=True, kw_only=True, tag="delete"):
    """Take the text out of a message."""

    offset: int


class React(Write, frozen=True, kw_only=True, tag="react"):
    """Put an emoji on a message, or take it off."""

    offset: int
    emoji: str
    on: bool
