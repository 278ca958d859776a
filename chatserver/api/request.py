"""A request as handlers see it: parsed, with its user, without a socket.

Owns: reading parameters, strictly. May not: answer, or keep anything; identities.py finds its user.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable

import msgspec

from chatserver.api.identities import Identified, Identities
from chatserver.api.origins import forbidden
from chatserver.api.tokens import refused
from chatserver.chat.principal import Principal
from chatserver.log.signouts import SignOut
from chatserver.protocol.client_messages import DEFAULT_HISTORY, MAX_HISTORY
from chatserver.protocol.errors import HttpError, bad_field
from chatserver.protocol.head import Head
from chatserver.protocol.response import MAX_QUERY_FIELDS, query_fields
from chatserver.protocol.validation import OFFSET_LIMIT, Cursor, optional_cursor
from chatserver.reasons import ErrorCode

#: Of what Python reads as a number: no underscores, no spaces, no digits of other scripts.
_NUMBER = re.compile(r"[0-9.]{1,20}(?:e-?[0-9]{1,3})?")


class Request(msgspec.Struct, gc=False):
    """One request.

    A handler that returns a coroutine has read the fields and the body before, since a waiting request keeps neither.
    """

    head: Head
    body: bytes
    address: str
    network: str
    identities: Identities
    operators: bool = False  # came in at --metrics-listen
    vouched: bool = False  # came from a trusted proxy, which may name the signed-in user
    secure: bool = False  # came over TLS, at least from the client to its proxy
    foreign: bool = False  # from another site's page, or for monitoring: it may read what is public, anonymously
    _principal: Principal | None = None
    _signed_out: SignOut | None = None  # the user's last sign-out before this request began to wait

    @property
    def principal(self) -> Principal:
        """The user who sent it; the handshake of a WebSocket does not use this. Raises HttpError (401, 403)."""
        if self.foreign:
            raise forbidden(self.head)
        if self._principal is None:
            self._principal = self.identities.of(
                self.head, self.address, self.network, vouched=self.vouched, secure=self.secure
            )
        return self._principal

    @property
    def known(self) -> Identified | None:
        """The user that it identifies, if any. Raises RefusedError (401)."""
        return self.identities.known(self.head, self.network, vouched=self.vouched, secure=self.secure)

    @property
    def reader(self) -> Principal:
        """The principal that reads public content; for a page of another site it is anonymous."""
        return self.identities.nobody(self.network) if self.foreign else self.principal

    @property
    def content(self) -> tuple[bytes, str | None]:
        """The body without a byte order mark, which editors write into files, and its type if the request names one."""
        return self.body.removeprefix(BOM_UTF8), self.head.headers.get("content-type")

    def shrink(self) -> None:
        """Drop fields and body, up to 80 KB, while the request waits for the log; the user and the target stay."""
        if not self.foreign:
            self._signed_out = self.identities.signed_out.last_of(self.principal.number)  # while the fields are here
        self.body = b""
        self.head = msgspec.structs.replace(self.head, headers={})

    def check_again(self) -> None:
        """After a wait: refuse a user who has signed out everywhere meanwhile. Raises RefusedError."""
        if self.foreign:
            return
        if self.identities.signed_out.again_since(self._signed_out, self.principal.number):
            raise refused()

    def parameters(self, *allowed: str, rooms: int = 0) -> "Parameters":
        """The query. A field other than `allowed` is refused, so that a typing error does not pass silently.

        `rooms` is how many the query may name.
        """
        fields = query_fields(self.head.query, MAX_QUERY_FIELDS + rooms) if self.head.query else []
        for name, _ in fields:
            if name not in allowed:
                known = f"there are: {', '.join(allowed)}" if allowed else "none is known here"
                raise HttpError(ErrorCode.BAD_FIELD, f"unknown parameter {name[:40]!r}; {known}")
        return Parameters(fields)


def number_in(path: str) -> int:
    """The number that is a part of a path; 0 for other text, and for digits that no offset or id has."""
    return int(path) if path.isascii() and path.isdigit() and len(path) <= len(str(OFFSET_LIMIT)) else 0


class Parameters:
    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def all(self, name: str) -> list[str]:
        return [value for field, value in self._fields if field == name]

    def one(self, name: str) -> str | None:
        """The value of a field that may occur once."""
        values = self.all(name)
        if len(values) > 1:
            raise bad_field(name, f"sent {len(values)} times")
        return values[0] if values else None

    def cursor(self, name: str) -> Cursor | None:
        return optional_cursor(self.one(name))

    def entry(self) -> int | None:
        """The id in `after`, of an entry of a list."""
        text = self.one("after")
        if text is None or (text.isascii() and text.isdigit() and len(text) < len(str(OFFSET_LIMIT))):
            return None if text is None else int(text)
        raise bad_field("after", f"{text[:20]!r}; the id of an entry, a whole number")

    def limit(self, *, default: int = DEFAULT_HISTORY, most: int = MAX_HISTORY) -> int:
        """The most messages or rooms to return."""
        return int(self._number("limit", int, default=default, least=1, most=most))

    def messages_only(self) -> bool:
        """Whether `kinds=message` excludes edits, deletions and reactions."""
        kinds = self.one("kinds")
        if kinds not in (None, "message"):
            raise bad_field("kinds", f"{kinds[:20]!r}; its only value is message")
        return kinds is not None

    def wait(self, most: float) -> float:
        """Seconds to hold a poll; 0 answers at once. A longer wait is cut to the maximum, as clients expect."""
        return min(self._number("wait", float, default=0.0, least=0.0, most=86_400.0), most)

    def _number(self, name: str, kind: Callable[[str], float], *, default: float, least: float, most: float) -> float:
        text = self.one(name)
        if text is None:
            return default
        try:
            number = kind(text) if _NUMBER.fullmatch(text) else None
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            raise bad_field(name, f"{text[:20]!r}; {least:g} to {most:g} is allowed")
        return number
