"""Our identity at a server: a token or a guest's cookie, as header fields.

Owns: both secrets in memory. May not: know the network or a file (terminal/identity.py keeps the cookie).
"""

from collections.abc import Iterable, Mapping

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
        self._cookies: dict[str, str] = {}
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
        return [(b"Cookie", self.cookie.encode())] if self._cookies else []

    def take(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Store the cookies of an answer, so that we stay the same guest."""
        for name, value in headers:
            if name.lower() == b"set-cookie":
                self.load(value.decode("latin-1").partition(";")[0])

    def load(self, cookies: str) -> None:
        """Store cookies in the form of `cookie`, of which some may be newer ones in place of those that are there.

        Their values are sent back as they came (RFC 6265 section 5.2).
        """
        found = dict(self._cookies)
        for pair in cookies.split(";"):
            name, equals, value = map(str.strip, pair.partition("="))
            if name and equals and pair.isascii() and pair.strip().isprintable():
                found[name] = value
        if len(_field_of(found)) <= MAX_COOKIES:
            self._cookies = found


def _field_of(cookies: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())
