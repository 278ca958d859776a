"""The URL, the room and the token of a command line, for every command that has them.

Owns: their forms, and what is said about wrong ones. May not: connect.
"""

import re
from pathlib import Path

from chatserver.client.credentials import checked_token
from chatserver.client.errors import BadUrl, Unauthenticated
from chatserver.client.stream import Target, parse_target
from chatserver.settings.spec import ConfigError

_LONGEST_NAME = 100  # characters of a file's name here; a token has more
_ROOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def read_target(url: str) -> Target:
    """Return the server that a URL names. Raises ConfigError."""
    try:
        return parse_target(url)
    except BadUrl as error:
        raise ConfigError("", f"URL: {error.message}") from None


def read_room(text: str) -> str:
    """Return the room given. Raises ConfigError; an empty one is of a variable that is not set, and no default."""
    if not _ROOM.fullmatch(text):
        raise ConfigError("room", "1 to 64 characters of a-z 0-9 . _ - that begin with a letter or digit")
    return text


def read_token(text: str) -> str:
    """Return the token given, or the one in the file that `@FILE` names. Raises ConfigError."""
    try:
        if not text.startswith("@"):
            if len(text) <= _LONGEST_NAME and Path(text).is_file():
                raise ConfigError("token", f"{text} is a file; --token @{text} reads it")
            return checked_token(text)
        if token := checked_token(Path(text[1:]).read_text("utf-8")):
            return token
        why = "it is empty"
    except Unauthenticated as error:
        raise ConfigError("token", error.message) from None
    except UnicodeError:
        why = "it is no text"
    except OSError as error:
        why = error.strerror or str(error)
    raise ConfigError("token", f"cannot read {text[1:]}: {why}")


def may_change(token: str) -> bool:
    """Whether the token is in a file, which can be read again. A named pipe would be waited for."""
    return token.startswith("@") and Path(token[1:]).is_file()
