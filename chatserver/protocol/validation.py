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

_ROOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEXT_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed
_OVERRIDES = re.compile("[\u202a-\u202e]")  # embeddings and overrides: isolates do all that honest text needs
_ISOLATES = re.compile("[\u2066-\u2069]")
_POP_ISOLATE = "\u2069"
_JOINERS = "\u200c\u200d"  # invisible, but Persian and family emoji are spelt with them


def check_room(room: str) -> str:
    """A room's name, as CONTRACT section 3 has it."""
    if _ROOM.fullmatch(room):
        return room
    raise MessageError(
        ErrorCode.BAD_ROOM,
        "room: 1 to 64 characters of a-z 0-9 . _ - that begin with a letter or digit",
    )


def check_text(text: str) -> str:
    """A message's text: not blank, not too long, nothing that disturbs other people's screens."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if not text.isascii():
        _check_unicode("text", text)
        size = len(text.encode("utf-8"))
    else:
        size = len(text)
    if size > MAX_TEXT_BYTES:
        raise _bad("text", f"{size:,} bytes of UTF-8, limit {MAX_TEXT_BYTES:,}")
    if not text or text.isspace():
        raise _bad("text", "blank")
    control = _TEXT_CONTROLS.search(text)
    if control:
        raise _bad("text", f"control character U+{ord(control[0]):04X}")
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
    _check_unicode("name", name)
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


def _check_unicode(field: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _bad(field, "half a surrogate pair") from None
    override = _OVERRIDES.search(text)
    if override:
        raise _bad(field, f"bidirectional override U+{ord(override[0]):04X}")
    _check_isolates(field, text)
    _check_combining(field, text)


def _check_isolates(field: str, text: str) -> None:
    depth = 0
    for character in _ISOLATES.findall(text):
        depth += -1 if character == _POP_ISOLATE else 1
        if depth < 0:
            break
    if depth:
        raise _bad(field, "bidirectional isolates that do not balance")


def _check_combining(field: str, text: str) -> None:
    # 50 ns a character, paid by non-ASCII text only: 0.2 ms for the longest there can be.
    run = 0
    category = unicodedata.category
    for character in text[: MAX_TEXT_BYTES + 1]:
        if category(character)[0] != "M":
            run = 0
            continue
        run += 1
        if run > MAX_COMBINING:
            raise _bad(field, f"more than {MAX_COMBINING} combining marks on one character")


def _bad(field: str, what: str) -> MessageError:
    return MessageError(ErrorCode.BAD_FIELD, f"{field}: {what}")
