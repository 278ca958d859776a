"""The rules for rooms, texts, keys and cursors.

Owns: the rules for values from clients, over every transport alike. Each check returns the accepted value (a text may
be tidied), or raises `MessageError` naming the field.

Text appears on other people's screens: control characters drive terminals, bidirectional overrides make one word read
as another, and stacked combining marks cover neighbouring lines. Everything else is allowed.
"""

import re
import unicodedata

import msgspec

from chatserver.protocol.errors import MessageError, bad_field
from chatserver.reasons import ErrorCode

# Half of a message's 16 KiB: quotes and line breaks double when escaped as JSON, and the text must still fit in one
# frame with its envelope.
MAX_TEXT_BYTES = 8 * 1024
MAX_KEY_CHARS = 64  # a UUID has 36
MAX_USER_ID_CHARS = 64  # a UUID has 36, an e-mail address 25
GUEST = "g_"  # prefix of guests' ids only
_GUEST_ID = re.compile(f"{GUEST}[0-9a-f]{{15}}")
#: The id that all readers on pages of other sites share: a ban of it would be of them all.
NOBODY = GUEST + 15 * "0"
MAX_NAME_CHARS = 40  # Discord 32, Zulip 60
MAX_COMBINING = 8  # in a row; Hebrew with cantillation has 4 or 5, Unicode's stream-safe format allows 30
MAX_ISOLATES = 128  # opened in one text: the Unicode bidirectional algorithm nests 125 deep
MAX_MENTIONS = 20  # of one message; Discord 100, Slack has none
WHOLE_NUMBER = 'a whole number (41, not "41" or 41.0)'  # what PHP and Lua may make of a 41 that they read
MAX_EMOJI_BYTES = 32  # a family of four has 25; a kiss with two skin tones has 35 and is refused
OFFSET_LIMIT = 1 << 53  # of cursors; beyond it a browser's numbers are not exact

_ROOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CURSOR = re.compile(r"(?:([0-9A-Za-z]{1,32})-)?([0-9]{1,16})", re.ASCII)
# All controls but tab and line feed; also embeddings and overrides, because isolates do all that honest text needs.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
_FIRST_OVERRIDE = "\u202a"
_ISOLATES = re.compile("[\u2066-\u2069]")
_POP_ISOLATE = "\u2069"
# Joiners, which Persian names and emoji need; every other invisible character is refused in names.
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))
_SHOWS_NOTHING = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols
_BLANKS = re.compile(f"[ {_SHOWS_NOTHING}]")
# A text has at least one of these. The others are white space, joiners, directions, variations and tags.
_VISIBLE = re.compile(
    f"[^\\s{_SHOWS_NOTHING}\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e0fff]"
)

# The blocks of emoji: wider than today's set, since each year's new ones are in the same blocks.
_EMOJI_BASE = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001faff"
)
# UTS 51, ED-17: a base with its variation, skin tone or tags; several of those joined; a flag; a keycap.
_EMOJI_PART = f"[{_EMOJI_BASE}](?:\ufe0f|[\U0001f3fb-\U0001f3ff])?(?:[\U000e0020-\U000e007e]+\U000e007f)?"
_EMOJI = re.compile(f"{_EMOJI_PART}(?:\u200d{_EMOJI_PART})*|[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3")
_UNTONED = re.compile(f"([{_EMOJI_BASE}0-9#*])\ufe0f?(?![\U0001f3fb-\U0001f3ff])")

# Runs that may have too many marks: of marks up to U+FFFF, or of any characters beyond, which one range covers. The
# regular expression scans 8 KiB of any script in 60 µs; checking each character takes 270.
_MARKS = "".join([mark for mark in map(chr, range(0x10000)) if unicodedata.category(mark)[0] == "M"])
_RUNS = re.compile(f"[{_MARKS}\U00010000-\U0010ffff]{{{MAX_COMBINING + 1},}}")


def check_room(room: str) -> str:
    """Check a room's name (docs/protocol.md)."""
    if _ROOM.fullmatch(room):
        return room
    rule = "room: 1 to 64 characters of a-z 0-9 . _ - that begin with a letter or digit"
    raise MessageError(ErrorCode.BAD_ROOM, rule)


def check_text(text: str, field: str = "text") -> str:
    """Check a message's text: not too long (first of all), not blank, nothing that disturbs other people's screens."""
    if len(text) <= 2 * MAX_TEXT_BYTES:
        text = text.replace("\r\n", "\n")
    if len(text) > MAX_TEXT_BYTES:
        raise bad_field(field, f"{len(text):,} characters, limit {MAX_TEXT_BYTES:,} bytes of UTF-8")
    size = len(text) if text.isascii() else len(_encoded(text, field))
    if size > MAX_TEXT_BYTES:
        raise bad_field(field, f"{size:,} bytes of UTF-8, limit {MAX_TEXT_BYTES:,}")
    if not text or text.isspace():
        raise bad_field(field, "blank")
    if not text.isprintable():  # most texts are printable; controls and overrides are not
        forbidden = _FORBIDDEN.search(text)
        if forbidden:
            kind = "control character" if forbidden[0] < _FIRST_OVERRIDE else "bidirectional override"
            raise bad_field(field, f"{kind} U+{ord(forbidden[0]):04X}")
    if not text.isascii():
        _check_isolates(text, field)
        _check_combining(text, field)
        if not _VISIBLE.search(text):
            raise bad_field(field, "blank")
    return text


def check_name(name: str) -> str:
    """Check a chosen name: one visible line, normalised to NFC so that equal names compare equal."""
    if len(name) > 4 * MAX_NAME_CHARS:  # before the costly steps
        raise bad_field("name", f"{len(name):,} characters, limit {MAX_NAME_CHARS}")
    name = unicodedata.normalize("NFC", " ".join(filter(None, name.split(" "))))
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise bad_field("name", f"{len(name)} characters; 1 to {MAX_NAME_CHARS} are allowed")
    seen = name.translate(_JOINERS)
    if not seen.isprintable():  # refuses controls, overrides, isolates and lone surrogates, among others
        character = next(character for character in seen if not character.isprintable())
        raise bad_field("name", f"character U+{ord(character):04X} cannot be seen")
    _check_combining(name, "name")
    if all(unicodedata.category(character)[0] == "M" for character in _BLANKS.sub("", seen)):
        raise bad_field("name", "blank")
    return name


def check_user_id(user_id: str, field: str = "user") -> str:
    """Check the id of a user who is no guest."""
    if not (1 <= len(user_id) <= MAX_USER_ID_CHARS and user_id.isprintable() and user_id == user_id.strip()):
        raise bad_field(field, f"1 to {MAX_USER_ID_CHARS} printable characters, without blanks at the ends")
    if user_id.startswith(GUEST):
        raise bad_field(field, f"{GUEST} begins the id of a guest")
    _check_combining(user_id, field)  # without a name it is shown
    return user_id


def check_any_user_id(user_id: str, field: str = "user") -> str:
    """Check the id of a user or a guest, so that a sanction of an id that nobody can have is refused."""
    if user_id == NOBODY:
        raise bad_field(field, f"{NOBODY} is not one user: it stands for all readers on pages of other sites")
    if _GUEST_ID.fullmatch(user_id):
        return user_id
    if user_id.startswith(GUEST):
        rule = f"{user_id[:MAX_USER_ID_CHARS]!r} is no guest's id; one has 15 digits of 0-9 a-f after {GUEST}"
        raise bad_field(field, rule)
    return check_user_id(user_id, field)


def check_key(key: str | None) -> str | None:
    if key is None or (1 <= len(key) <= MAX_KEY_CHARS and key.isprintable()):
        return key
    raise bad_field("key", f"1 to {MAX_KEY_CHARS} printable characters are allowed")


def check_offset(offset: int, field: str = "offset", *, least: int = 1) -> int:
    """Check the offset of a message; a read marker may also be 0, which means that nothing is read."""
    if least <= offset < OFFSET_LIMIT:
        return offset
    raise bad_field(field, f"the offset of a message, {WHOLE_NUMBER} from {least}")


def check_emoji(emoji: str) -> str:
    """Check a reaction: one emoji. Returns it fully qualified (UTS 51, ED-18), since keyboards differ in U+FE0F."""
    if len(emoji) <= MAX_EMOJI_BYTES and _EMOJI.fullmatch(emoji):
        qualified = _UNTONED.sub(_qualified, emoji)
        if len(qualified.encode()) <= MAX_EMOJI_BYTES:
            return qualified
    raise bad_field("emoji", f"one emoji of at most {MAX_EMOJI_BYTES} bytes of UTF-8")


def _qualified(found: re.Match[str]) -> str:
    """Add U+FE0F to a character that is shown as text without it.

    Those that are emoji by themselves are wide, with six exceptions; and so are those that this Python is too old for.
    """
    base = found[1]
    is_text = unicodedata.east_asian_width(base) != "W" or base in "〰〽㊗㊙🈂🈷"
    return f"{base}\ufe0f" if is_text and unicodedata.category(base) != "Cn" else base


def check_mentions(mentions: tuple[str, ...]) -> tuple[str, ...]:
    """Check the ids of mentioned users; returns each once."""
    if len(mentions) > MAX_MENTIONS:
        raise bad_field("mentions", f"{len(mentions)} users, limit {MAX_MENTIONS}")
    for user_id in mentions:
        if not (1 <= len(user_id) <= MAX_USER_ID_CHARS and user_id.isprintable()):
            raise bad_field("mentions", f"ids of users, of 1 to {MAX_USER_ID_CHARS} printable characters")
    return tuple(dict.fromkeys(mentions))


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A place in a room, as a client sent it. Only the log knows whether it still exists."""

    epoch: str | None  # None for a bare offset
    offset: int


def parse_cursor(value: str | int) -> Cursor:
    """`"k3f9-41"` is offset 41 in the epoch k3f9; a bare number, 41 or `"41"`, has no epoch."""
    epoch = None
    if isinstance(value, str):
        match = _CURSOR.fullmatch(value)
        if match is None:
            raise _bad_cursor(value[:60])
        epoch, value = match[1], int(match[2])
    if not 0 <= value < OFFSET_LIMIT:
        # The number is not printed, since Python refuses to print more than 4,300 digits.
        raise _bad_cursor("a number out of range")
    return Cursor(epoch, value)


def optional_cursor(value: str | int | None) -> Cursor | None:
    """`parse_cursor`, if there is one."""
    return None if value is None else parse_cursor(value)


def _bad_cursor(what: str) -> MessageError:
    return MessageError(ErrorCode.BAD_CURSOR, f"{what!r} is not a cursor; one looks like k3f9-41, or 41")


def _encoded(text: str, field: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise bad_field(field, "half a surrogate pair") from None


def _check_isolates(text: str, field: str) -> None:
    opened = text.count(_POP_ISOLATE)
    if opened > MAX_ISOLATES:
        raise bad_field(field, f"{opened:,} bidirectional isolates, limit {MAX_ISOLATES}")
    depth = 0
    for isolate in _ISOLATES.finditer(text):
        depth += -1 if isolate[0] == _POP_ISOLATE else 1
        if not 0 <= depth <= MAX_ISOLATES:
            break
    if depth:
        raise bad_field(field, "bidirectional isolates that do not balance")


def _check_combining(text: str, field: str) -> None:
    for run in _RUNS.finditer(text):
        marks = 0
        for character in run[0]:
            marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
            if marks > MAX_COMBINING:
                raise bad_field(field, f"more than {MAX_COMBINING} combining marks on one character")
