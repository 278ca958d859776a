"""Our identity at a server, from one start to the next.

Owns: a file for each server with its cookie, readable only by the user; reading a token from a file.
May not: know the network.
"""

import os
from pathlib import Path
from urllib.parse import quote

from chatserver.client.stream import Target


def kept_cookie(target: Target) -> str:
    """Return the last cookie from this server, or an empty text."""
    try:
        return _path(target).read_text("latin-1")
    except OSError:  # most likely the first start; otherwise storing the next one fails too, and is reported
        return ""


def keep_cookie(target: Target, cookie: str) -> None:
    """Store the cookie. Raises OSError."""
    path = _path(target)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="latin-1") as file:
        file.write(cookie)
    fresh.replace(path)


def read_token(text: str) -> str:
    """Return the token given, or the one in the file that `@FILE` names; raises ValueError, which says why not."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8").strip()
    except UnicodeError:
        why = "it is no text"
    except OSError as error:
        why = error.strerror or str(error)
    raise ValueError(f"cannot read {text[1:]}: {why}")


def _path(target: Target) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "chatserver", f"{quote(str(target), safe='')}.cookie")
