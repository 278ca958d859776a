"""What a room, a text, a key and a name may be.

Owns: the rules for what people type, over every transport alike. Each check returns the value it accepts
(a name or text may be tidied) and raises `MessageError` naming the field otherwise.

Text is other people's screens: control characters drive terminals, bidirectional overrides make one word read
as another, and stacked combining marks climb over the neighbours' lines. Everything else is theirs to write.
"""

import re
import unicodedata

from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode

# Half of a message's 16 KiB: quotes and line breaks double when they are escaped as JSON, and the text must still
# fit in one frame with its envelope. (A client that escapes everything beyond ASCII needs three bytes for one, and
# may meet the frame's limit first.)
MAX_TEXT_BYTES = 8 * 1024
MAX_KEY_CHARS = 64  # a UUID has 36
MAX_NAME_CHARS = 40  # XMPP 1,023 bytes, IRC 9 to 30, Discord 32
MAX_COMBINING = 8  # in a row; Hebrew with cantillation has 4 or 5, Unicode's stream-safe format allows 30
MAX_ISOLATES = 128  # opened in one text: the Unicode bidirectional algorithm nests 125 deep

_ROOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# All controls but tab and line feed; embeddings and overrides, because isolates do all that honest text needs.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
_FIRST_OVERRIDE = "\u202a"
_ISOLATES = re.compile("[\u2066-\u2069]")
_POP_ISOLATE = "\u2069"
_JOINERS = "\u200c\u200d"  # invisible, but Persian and family emoji are spelt with them

# Runs in which there may be too many marks: of the marks up to U+FFFF, and of anything beyond, which one range covers.
# A regular expression passes 8 KiB of any script in 60 µs; to look at each character takes 270.
_MARKS = "".join([mark for mark in map(chr, range(0x10000)) if unicodedata.category(mark)[0] == "M"])
_RUNS = re.compile(f"[{_MARKS}\U00010000-\U0010ffff]{{{MAX_COMBINING + 1},}}")


def check_room(room: str) -> str:
    """A room's name, as CONTRACT section 3 has it."""
    if _ROOM.fullmatch(room):
        return room
    raise MessageError(
        ErrorCode.BAD_ROOM,
        "room: 1 to 64 characters of a-z 0-9 . _ - that begin with a letter or digit",
    )


def check_text(text: str) -> str:
    """A message's text: not too long, not blank, nothing that disturbs other people's screens.

    Its size first, so that what is looked at is never more than 8 KiB.
    """
    if "\r" in text and len(text) <= 2 * MAX_TEXT_BYTES:
        text = text.replace("\r\n", "\n")
    if len(text) > MAX_TEXT_BYTES:
        raise _bad("text", f"{len(text):,} characters, limit {MAX_TEXT_BYTES:,} bytes of UTF-8")
    size = len(text) if text.isascii() else len(_encoded("text", text))
    if size > MAX_TEXT_BYTES:
        raise _bad("text", f"{size:,} bytes of UTF-8, limit {MAX_TEXT_BYTES:,}")
    if not text or text.isspace():
        raise _bad("text", "blank")
    if not text.isprintable():  # most texts are; no control and no override is
        forbidden = _FORBIDDEN.search(text)
        if forbidden:
            raise _forbidden("text", forbidden[0])
    if not text.isascii():
        _check_isolates("text", text)
        _check_combining("text", text)
    return text


def check_key(key: str) -> str:
    """An idempotency key."""
    if 1 <= len(key) <= MAX_KEY_CHARS and key.isprintable():
        return key
    raise _bad("key", f"1 to {MAX_KEY_CHARS} printable characters are allowed")


def check_name(name: str) -> str:
    """A person's name, normalised (NFC) and stripped, so that two names that look alike are alike more often."""
    if len(name) > 4 * MAX_NAME_CHARS:
        raise _bad("name", f"{len(name):,} characters, limit {MAX_NAME_CHARS}")
    _encoded("name", name)
    _check_isolates("name", name)
    _check_combining("name", name)
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise _bad("name", f"1 to {MAX_NAME_CHARS} characters are allowed")
    for character in name:
        # Other: controls, invisible formats (bidi ones too), surrogates, private and unassigned; separators: of lines.
        category = unicodedata.category(character)
        if (category[0] == "C" or category in ("Zl", "Zp")) and character not in _JOINERS:
            raise _bad("name", f"character U+{ord(character):04X} is not for names")
    if all(unicodedata.category(character)[0] in "CMZ" for character in name):
        raise _bad("name", "nothing in it can be seen")
    return name


def _encoded(field: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise _bad(field, "half a surrogate pair") from None


def _forbidden(field: str, character: str) -> MessageError:
    kind = "control character" if character < _FIRST_OVERRIDE else "bidirectional override"
    return _bad(field, f"{kind} U+{ord(character):04X}")


def _check_isolates(field: str, text: str) -> None:
    opened = text.count(_POP_ISOLATE)
    if opened > MAX_ISOLATES:
        raise _bad(field, f"{opened:,} bidirectional isolates, limit {MAX_ISOLATES}")
    depth = 0
    for isolate in _ISOLATES.finditer(text):
        depth += -1 if isolate[0] == _POP_ISOLATE else 1
        if not 0 <= depth <= MAX_ISOLATES:
            break
    if depth:
        raise _bad(field, "bidirectional isolates that do not balance")


def _check_combining(field: str, text: str) -> None:
    for run in _RUNS.finditer(text):
        marks = 0
        for character in run[0]:
            marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
            if marks > MAX_COMBINING:
                raise _bad(field, f"more than {MAX_COMBINING} combining marks on one character")


def _bad(field: str, what: str) -> MessageError:
    return MessageError(ErrorCode.BAD_FIELD, f"{field}: {what}")
