"""The forms in which people write where a server is, made into one.

Owns: `Target`. May not: connect.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

_SECURE = {"http": False, "https": True, "ws": False, "wss": True}


class BadUrlError(ValueError):
    """Not the address of a server; says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the WebSocket is."""

    host: str
    port: int
    path: str
    secure: bool

    @property
    def authority(self) -> str:
        """The `Host` field: RFC 9110 7.2 wants it without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.path}"


def parse_target(text: str) -> Target:
    """Return the same for `http://host:port`, `ws://host:port/ws` and `host:port`."""
    try:
        parts = urlsplit(text if "://" in text else f"ws://{text}")
        port = parts.port
    except ValueError as error:
        raise BadUrlError(f"{text!r} is no URL: {error}") from error
    if parts.scheme not in _SECURE:
        raise BadUrlError(f"{text!r} is none of http://, https://, ws://, wss:// and host:port")
    if not parts.hostname:
        raise BadUrlError(f"{text!r} names no host")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadUrlError(f"{text!r}: a user, a query or a fragment has no meaning here")
    path = parts.path.rstrip("/")
    if not path.endswith("/ws"):
        path += "/ws"
    secure = _SECURE[parts.scheme]
    return Target(parts.hostname, (443 if secure else 80) if port is None else port, path, secure)
