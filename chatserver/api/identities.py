"""The user behind a request or a WebSocket.

Owns: the order of the sources, and the cookie. May not: store anything about users, or know what they may do.

    1. `Authorization: Bearer`: an invalid token is refused, and no other source is tried
    2. the cookie of a user who has signed in; an invalid one is ignored, but not one that cannot be checked now
    3. the header of a trusted proxy
    4. a guest: by the token in bearer or cookie, otherwise by address and user agent

A cookie can be trusted, since requests of other sites' pages are refused before or are anonymous (origins.py). Without
a token, HTTP is the guest of an address and user agent, and a WebSocket a new guest who gets a token.
"""

import math
import re
from functools import lru_cache
from typing import NamedTuple

import trio

from chatserver.api.tokens import RefusedError, Tokens, name_of, refused
from chatserver.chat.policy import Access, rights_of
from chatserver.chat.principal import (
    CACHED_GUESTS,
    TOKEN_MAX,
    NamedGuest,
    Newcomer,
    Principal,
    SignedIn,
    User,
    new_token,
    number_of,
    opened,
    pack,
    under,
    user_number,
)
from chatserver.chat.signed_out import SignedOut
from chatserver.protocol.errors import MessageError, bad_field
from chatserver.protocol.head import Head
from chatserver.protocol.response import cookie
from chatserver.protocol.validation import check_user_id
from chatserver.reasons import ErrorCode

COOKIE = "chat_session"
#: Its name over TLS, where no other counts. Browsers take a cookie with this prefix from this host alone, and any other
#: also from hosts of the same domain, one of which could make its visitors a user of its choice here.
HOST_COOKIE = f"__Host-{COOKIE}"
#: Seconds for which a browser keeps a guest's cookie: a year. Chromium allows 400 days at most.
COOKIE_LIFETIME = 365 * 24 * 3600
#: Characters of a user agent that distinguish guests at one address: browsers send 120. Without this bound a client
#: could have the server keep any number.
AGENT_MAX = 256

#: A guest's token: random characters, optionally followed by a name and its seal.
_GUEST_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{16,{TOKEN_MAX}}}(~[A-Za-z0-9_-]{{1,216}}~[A-Za-z0-9_-]{{22}})?")


class Identified(NamedTuple):
    """The user that a request identifies, and the token with which it did."""

    principal: Principal
    token: str = ""
    issued: float = 0.0  # of a signed-in user's token, by its issuer's clock; 0: not known


class Identities:
    """The sources of identity; one for the server. `secret` is the log's, with which tokens become numbers."""

    def __init__(
        self, secret: bytes, access: Access, signed_out: SignedOut, tokens: Tokens | None = None, *,
        user_header: str = "", sign_in_within: float = math.inf,
    ) -> None:  # fmt: skip
        self.access = access
        self.signed_out = signed_out
        self._user_header = user_header
        self._sign_in_within = sign_in_within  # seconds for a WebSocket, where guests may do nothing
        self._tokens = tokens
        self._secret = secret
        self._guest = under(Principal, access)
        self._signed_in = under(SignedIn, access)
        self._named_guest = under(NamedGuest, access)
        self._newcomer = under(Newcomer, access)
        #: the guest of a token, and a network; shared by the requests of a client, which may hold several polls
        self.guest = lru_cache(CACHED_GUESTS)(self._make_guest)
        self._vouched_for = lru_cache(CACHED_GUESTS)(self._make_user)

    def of(self, head: Head, address: str, network: str, *, vouched: bool = False, secure: bool = False) -> Principal:
        """The user who sent a request. Raises RefusedError."""
        known = self.known(head, network, vouched=vouched, secure=secure)
        if known is not None:
            return known.principal
        # The space keeps this from being equal to any token of ours, in which "~" begins a name.
        agent = head.headers.get("user-agent", "")[:AGENT_MAX].replace("~", "\0")
        return self.guest(f"{address} {agent}", network)

    def opening(self, head: Head, network: str, *, vouched: bool, secure: bool) -> tuple[Principal, str, bool]:
        """The user who opens a WebSocket, a guest's token, and whether that is new. Raises RefusedError."""
        known = self.known(head, network, vouched=vouched, secure=secure)
        if known is not None and not known.principal.is_guest:
            return known.principal, "", False
        if known is not None:
            guest, token = known.principal, known.token
        else:
            token = new_token()
            guest = self._guest(number_of(token, self._secret), network)
        if self.access.closed_to_guests:
            guest = self._newcomer(guest.number, network, trio.current_time() + self._sign_in_within)
        return guest, token, known is None

    def known(self, head: Head, network: str, *, vouched: bool, secure: bool) -> Identified | None:
        """The user that a request identifies, if any. `vouched`: it came from a trusted proxy. Raises RefusedError."""
        scheme, _, bearer = head.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":  # other schemes are meant for a proxy in front
            return self.by_token(bearer.strip(), network)
        found = None
        fields = head.headers.get("cookie")
        sent = None if fields is None else cookie(fields, cookie_name(secure=secure))
        if sent is not None:
            try:
                found = self.by_token(sent, network)
            except RefusedError as error:
                if error.wait is not None:  # it may be valid: as a guest, its user would write under another name
                    raise
        if vouched and (found is None or found.principal.is_guest):
            user = head.headers.get(self._user_header)
            if user:
                return Identified(self._vouched_for(user, network))
        return found

    def wants_cookie(self, head: Head, network: str, *, vouched: bool, secure: bool) -> bool:
        """Whether the answer with the page should set a guest's cookie."""
        if self.access.closed_to_guests:
            return False
        try:
            return self.known(head, network, vouched=vouched, secure=secure) is None
        except RefusedError:
            return False

    def by_token(self, token: str, network: str) -> Identified:
        """The user of a token. Raises RefusedError."""
        if _GUEST_TOKEN.fullmatch(token):
            guest = self.guest(token, network)
            if not self.signed_out.holds(guest.number):
                raise refused()
            return Identified(guest, token)
        if self._tokens is None:
            raise refused()
        found = self._tokens.verify(token, network)
        if not self.signed_out.holds(found.number, found.issued):
            raise refused()
        return Identified(self._signed_in(found.number, network, found.packed, found.rights), token, found.issued)

    def nobody(self, network: str) -> Principal:
        """The reader for a page of another site, which may read what is public; its network may be banned."""
        return self._guest(0, network)

    def _make_user(self, header: str, network: str) -> Principal:
        """The user that a proxy names. A refusal says why: the operator may have chosen a header of another kind."""
        try:
            user_id = check_user_id(header.encode("latin-1").decode(errors="surrogateescape"), self._user_header)
            if "," in user_id:
                raise bad_field(self._user_header, "one value without a comma; of two a client may have sent the first")
        except MessageError as error:
            raise RefusedError(ErrorCode.UNAUTHENTICATED, f"the proxy's {error.message}") from None
        face = User(user_id, name_of(user_id))
        return self._signed_in(user_number(user_id, self._secret), network, pack(face, None), rights_of(None, None))

    def sweep(self) -> None:
        if self._tokens is not None:
            self._tokens.sweep()

    def _make_guest(self, token: str, network: str) -> Principal:
        base, name = opened(token, self._secret)
        number = number_of(base, self._secret)
        return self._guest(number, network) if name is None else self._named_guest(number, network, name)


def cookie_name(*, secure: bool) -> str:
    return HOST_COOKIE if secure else COOKIE


def set_cookie(token: str, *, secure: bool, seconds: int = COOKIE_LIFETIME) -> tuple[str, str]:
    """The Set-Cookie header with a token; a `secure` cookie is never sent over plain HTTP."""
    flags = "HttpOnly; SameSite=Lax; Secure" if secure else "HttpOnly; SameSite=Lax"
    return ("Set-Cookie", f"{cookie_name(secure=secure)}={token}; Path=/; Max-Age={seconds}; {flags}")
