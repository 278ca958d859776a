"""Whose request this is.

Owns: the cookie, and who is who without one. May not: keep anything.

A browser or our own client sends the guest token in a cookie. A client without one is, over plain HTTP, the guest of
its address and user agent, so that a bot or a `curl` loop keeps one name and its idempotency keys work across requests;
a WebSocket without a cookie is somebody new, and is given a token to come back with.

A cookie may be believed here: a request of another site's page has been refused before, or is nobody's (origins.py).
SameSite=Lax says the same once more.
"""

import re

from chatserver.chat.principal import TOKEN_MAX, Principal, number_of
from chatserver.protocol.head import Head
from chatserver.protocol.response import cookie

COOKIE = "chat_session"
#: Seconds a browser keeps it: a year. The longest that Chromium allows is 400 days.
COOKIE_LIFETIME = 365 * 24 * 3600

_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{16,{TOKEN_MAX}}}")


def token_in(head: Head) -> str | None:
    """The guest token that came with a request."""
    sent = head.headers.get("cookie")
    if sent is None:
        return None
    token = cookie(sent, COOKIE)
    return token if token is not None and _TOKEN.fullmatch(token) else None


def guest_of(head: Head, address: str, network: str, secret: bytes) -> Principal:
    """Who sent a request."""
    token = token_in(head)
    if token is None:
        token = f"{address} {head.headers.get('user-agent', '')}"  # a space: no token of ours looks like this
    return Principal(number_of(token, secret), network)


def set_cookie(token: str, *, secure: bool) -> tuple[str, str]:
    """The header that gives a token to a client; a secure one is not sent where it could be overheard."""
    flags = "HttpOnly; SameSite=Lax; Secure" if secure else "HttpOnly; SameSite=Lax"
    return ("Set-Cookie", f"{COOKIE}={token}; Path=/; Max-Age={COOKIE_LIFETIME}; {flags}")
