"""Our identity at a server: a token or a guest's cookie, as header fields.

Owns: both secrets in memory. May not: know the network or a file (terminal/identity.py keeps the cookie).
"""

from collections.abc import Iterable
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie

from chatserver.client.errors import Unauthenticated

MAX_COOKIES = 8192  # B in one request; later ones are ignored, since a server refuses too long a head
Headers = list[tuple[bytes, bytes]]


def checked_token(text: str) -> str:
    """Return a token without the line break that its file ended with. Raises Unauthenticated if it cannot be one."""
    token = text.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Unauthenticated("unauthenticated", "this is no token")
    return token


class Credentials:
    """The header fields that identify us; also stores the server's cookies. Raises Unauthenticated at once."""

    def __init__(self, *, token: str = "", cookie: str = "") -> None:
        self.token = checked_token(token)
        self._cookies = SimpleCookie()
        self.load(cookie)

    @property
    def cookie(self) -> str:
        """The cookies as one field value: a secret."""
        return _field_of(self._cookies)

    @property
    def fields(self) -> Headers:
        """The fields for a request. With a token the guest's cookie is not sent."""
        if self.token:
            return [(b"Authorization", f"Bearer {self.token}".encode())]
        return [(b"Cookie", self.cookie.encode("latin-1"))] if self.cookie else []

    def take(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Store the cookies of an answer, so that we stay the same guest."""
        for name, value in headers:
            if name.lower() == b"set-cookie":
                self.load(value.decode("latin-1"))

    def load(self, text: str) -> None:
        """Store cookies, of which some may be newer ones in place of those that are there."""
        cookies = SimpleCookie(self._cookies)
        with suppress(CookieError):
            cookies.load(text)
            if len(_field_of(cookies)) <= MAX_COOKIES:
                self._cookies = cookies


def _field_of(cookies: SimpleCookie) -> str:
    return cookies.output(attrs=[], header="", sep=";").strip()
