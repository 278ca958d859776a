"""Our identity at a server, from one start to the next.

Owns: a file with a cookie for each server and each `--name`, readable only by the user. May not: know the network.

Each name has a cookie of its own, so that two terminals on one machine may be two people, and a script with a name does
not take the place of a person.
"""

import os
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from chatserver.client.stream import Target


def kept_cookie(target: Target, name: str) -> str:
    """Return the last cookie from this server for a start with this name, or an empty text."""
    try:
        return _path(target, name).read_text("latin-1")
    except OSError:  # most likely the first start; otherwise storing the next one fails too, and is reported
        return ""


def keep_cookie(target: Target, name: str, cookie: str) -> None:
    """Store the cookie for the next start with this name. Raises OSError."""
    path = _path(target, name)
    for folder in reversed(path.parents):  # with `parents=True` the umask alone decides on those above
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="latin-1") as file:
        file.write(cookie)
    fresh.replace(path)


def is_renamed(cookie: str, before: str) -> bool:
    """Whether a cookie is that of the same guest with another name, which is behind the first "~".

    A balancer in front of the server has cookies of its own, and may change them with each answer.
    """
    known = {pair.partition("~")[0]: pair for pair in before.split("; ")}
    return any(known.get(pair.partition("~")[0], pair) != pair for pair in cookie.split("; "))


def _path(target: Target, name: str) -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # nothing counts but absolute paths (XDG Base Directory Specification)
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:  # neither the environment nor the system names our home
            raise OSError(str(error)) from error
    whose = f".{sha256(name.encode()).hexdigest()[:16]}" if name else ""  # any name in a short file name
    return state / "chatserver" / f"{quote(str(target), safe='')}{whose}.cookie"
