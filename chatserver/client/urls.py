"""The forms in which people write where a server is, made into one.

Owns: `websocket_url`. May not: connect.
"""

from urllib.parse import urlsplit

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class BadUrlError(ValueError):
    """Not the address of a server; says why."""


def websocket_url(text: str) -> str:
    """Return `ws://host:port/ws` for `http://host:port`, `ws://host:port/ws` and `host:port` alike."""
    with_scheme = text if "://" in text else f"ws://{text}"
    try:
        parts = urlsplit(with_scheme)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError as error:
        raise BadUrlError(f"{text!r} is no URL: {error}") from error
    if parts.scheme not in _SCHEMES:
        raise BadUrlError(f"{text!r} is none of http://, https://, ws://, wss:// and host:port")
    if not parts.hostname:
        raise BadUrlError(f"{text!r} names no host")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadUrlError(f"{text!r}: a user, a query or a fragment has no meaning here")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/")
    if not path.endswith("/ws"):
        path += "/ws"
    return f"{_SCHEMES[parts.scheme]}://{host}{port}{path}"
