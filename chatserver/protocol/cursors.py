"""Cursors: `EPOCH-OFFSET`, the name of a place in a room's log, as text.

Owns: the form, nothing else. What an epoch means and whether a place still exists is the log's business.
"""

import re

from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode

OFFSET_LIMIT = 1 << 53  # beyond it a browser's numbers have holes

_CURSOR = re.compile(r"(?:([0-9A-Za-z]{1,32})-)?([0-9]{1,16})", re.ASCII)


def parse_cursor(value: str | int) -> tuple[str | None, int]:
    """`"k3f9-41"` → `("k3f9", 41)`; a bare number, 41 or `"41"`, has no epoch."""
    if isinstance(value, str):
        match = _CURSOR.fullmatch(value)
        if match is None:
            raise _bad(value[:60])
        epoch, offset = match.group(1), int(match.group(2))
    else:
        epoch, offset = None, value
    if not 0 <= offset < OFFSET_LIMIT:
        # A huge number is not printed back: Python refuses to print one of more than 4,300 digits.
        raise _bad("a number out of range")
    return epoch, offset


def _bad(what: str) -> MessageError:
    return MessageError(ErrorCode.BAD_CURSOR, f"{what!r} is not a cursor; one looks like k3f9-41, or 41")


def format_cursor(epoch: str, offset: int) -> str:
    """The cursor of a place."""
    return f"{epoch}-{offset}"
