"""Events in words for people, safe to print.

Owns: the terminal client's wording of events, and the escaping of other people's text.
May not: print. Text from the network must not move the cursor, change colours or fake a line.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from zlib import crc32

from rich.cells import cell_len, set_cell_size

from chatserver.client import events, wire
from chatserver.client.errors import ChatError, Rejected, Unavailable
from chatserver.client.wire import Message, User

_NAME_COLOURS = (31, 32, 33, 34, 35, 36)  # SGR: the six that are readable on dark and light backgrounds
#: Joiners, which emoji and Persian need, wide and unbreakable spaces, the marks of direction of Hebrew and Arabic, and
#: the letters in the flags of England, Scotland and Wales: no printable characters, but text.
HARMLESS = frozenset("\u200c\u200d\u00a0\u202f\u3000\u200e\u200f\u061c") | set(map(chr, range(0xE0020, 0xE0080)))
#: These spaces, and letters and signs that look like one: in a sentence of such, which is one word, a line has no place
#: to break, and what the terminal puts at the beginning of a row looks like the line of another user.
_BLANK = dict.fromkeys(map(ord, "\u00a0\u202f\u3000\u2800\u3164\u115f\u1160\uffa0\U0001d159"), " ")
_NAMES_SHOWN = 3  # in one line of presence; of more, only the number is shown
_QUOTE = 60  # columns of a quoted message
_BRIEF = 1.0  # s; a text that is sent again sooner is not told of, nor is a shorter wait for a connection
INDENT = 7  # columns before the lines of a message after the first
MOST_LINES = 200  # of a message, as many as 8 KiB of code have; tmux scrolls back 2,000
_TAB = 4  # columns
_GUEST = "g_"  # how the ids of guests begin, and no others
_EMOJI = "\U0001f000"  # the first; nearly all characters above it have two columns
_NUMBER = re.compile("[0-9.]+")
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_HAN = "\u2e80-\u30ff\u31f0-\u9fff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff"  # Chinese and Japanese
# Begin no line, and end none (JIS X 4051).
_NO_START = "、。，．：；！？）］｝」』】〕〉》ー々ゝゞぁぃぅぇぉっゃゅょァィゥェォッャュョ…"  # noqa: RUF001  (they are meant)
_NO_END = "（［｛「『【〔〈《"  # noqa: RUF001
#: What is not broken, with the spaces before it: a word; of Chinese and Japanese, which have no spaces, a character.
_WORD = re.compile(rf"( *)([{_NO_END}]*(?:[{_HAN}]|[^ {_HAN}]+)[{_NO_START}]*)")


class Style:
    """SGR sequences, or nothing without colours. `marks_guests`: not everybody here is one."""

    def __init__(self, *, colours: bool, marks_guests: bool = False) -> None:
        self.colours = colours
        self.marks_guests = marks_guests

    def dim(self, text: str) -> str:
        """Less important text."""
        return self._with("2", text)

    def strong(self, text: str) -> str:
        """More important text."""
        return self._with("1", text)

    def alarm(self, text: str) -> str:
        """Text that is new, or addressed to the reader."""
        return self._with("1;31", text)

    def name(self, user: User) -> str:
        """A name in the colour of its user; never empty. A guest may have chosen the name of somebody else."""
        name = self._with(f"1;{_NAME_COLOURS[crc32(user.id.encode()) % len(_NAME_COLOURS)]}", name_of(user))
        return f"{name} {self.dim('(guest)')}" if self.marks_guests and user.id.startswith(_GUEST) else name

    def _with(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text


def printable(text: str) -> str:
    """Return `text` with control and format characters made visible: `\\x1b[2J` rather than a cleared screen.

    What looks like a space is one.
    """
    text = text.translate(_BLANK)
    return "".join(char if char.isprintable() or char in HARMLESS else ascii(char)[1:-1] for char in text)


def name_of(user: User) -> str:
    """Return a name that is safe to print."""
    return printable(user.name) or "?"


def label(room: str) -> str:
    """Return what stands before a line about this room; empty without one."""
    return f"{printable(room)}│" if room else ""


def plain_line(record: wire.Record, *, for_person: bool = False) -> str | None:
    """Return a record as one line: `2026-11-20T12:00:00.123Z Ann: hi`, or for a person `20 Nov 13:00 Ann: hi`."""
    match record:
        case wire.Message():
            words = f": {printable(_text(record))}"
        case wire.Edit(text=""):
            return None  # a later edit has replaced it
        case wire.Edit() | wire.Deletion() | wire.Reaction():
            words = f" {_change(record)}"
        case _:
            return None
    time = local_time(record, "%-d %b %H:%M") if for_person else printable(record.time)
    return f"{time} {name_of(record.user)}{words}"


def message_lines(message: Message, style: Style, *, room: str = "", quote: str = "", called: bool = False) -> str:
    """Return a message for people: local time, name, text with its line breaks kept and indented.

    `room` is given where it is not clear, `quote` is the message replied to; `called`: it is addressed to the reader.
    """
    is_action = message.text.startswith("/me ")
    lines = [printable(line.expandtabs(_TAB)) for line in _text(message).removeprefix("/me ").splitlines()]
    if called:
        lines = [style.strong(line) for line in lines]
    elif message.deleted:
        lines = [style.dim(line) for line in lines]
    if more := len(lines[MOST_LINES:]):  # 8,000 line breaks would take all before them out of the reader's sight
        lines[MOST_LINES:] = [style.dim(f"({more:,} more lines)")]
    facts = [f"{printable(emoji)} {count}" for emoji, count in message.reactions.items()]
    facts += ["(edited)"] if message.edited and not message.deleted else []
    text = f"\n{' ' * INDENT}".join(lines)
    tail = "  " + style.dim(" ".join(facts)) if facts else ""
    head = f"{style.dim(local_time(message, '%H:%M'))}  {style.dim(label(room))}"
    above = f"{head}{style.dim(f'↳ {quote}')}\n" if quote else ""
    who = f"* {style.name(message.user)}" if is_action else f"{style.name(message.user)}:"
    return f"{above}{head}{style.dim(f'#{message.offset}')} {who} {text}{tail}"


def wrapped(text: str, columns: int, *, indent: int) -> str:
    """Break lines between words, so that the edge of the terminal cuts none, and indent the rest of each.

    A word longer than a line is not broken here: the terminal wraps it, so that it can be copied whole. Nothing follows
    it in its last row: that would look like another user's line.
    """
    return "\n".join(_wrapped_line(line, columns, min(indent, columns // 4)) for line in text.split("\n"))


def _wrapped_line(line: str, columns: int, indent: int) -> str:
    rows, width = [""], 0
    for spaces, word in _WORD.findall(line.rstrip(" ")):  # without a word behind them, spaces take cubic time
        cells = most_cells(_SGR.sub("", word))
        if width + len(spaces) + cells > columns >= indent + cells and width:
            rows.append(" " * indent + word)
            width = indent + cells
        else:
            rows[-1] += spaces + word
            width += len(spaces) + cells
    return "\n".join(rows)


def most_cells(text: str) -> int:
    """Return the columns that a text takes at most: in many terminals each part of an emoji has columns of its own."""
    return sum(2 if char >= _EMOJI else 1 if char == "\ufe0f" else cell_len(char) for char in text)


def shortened(text: str, columns: int) -> str:
    """Return the beginning of a text that fits, with a mark if it is cut."""
    return text if cell_len(text) <= columns else set_cell_size(text, max(0, columns - 1)).rstrip() + "…"


def quoted(message: Message) -> str:
    """Return the beginning of a message as one line."""
    text = printable(_text(message).replace("\n", " "))
    return f"{name_of(message.user)}: {shortened(text, _QUOTE)}"


def local_time(record: wire.Record, form: str) -> str:
    """Return the local time of a record in this format of strftime, or the original text if it is not a time."""
    try:
        return f"{datetime.fromisoformat(record.time).astimezone():{form}}"
    except (ValueError, OverflowError):
        return printable(record.time)


def status(event: events.Event) -> str | None:
    """Return the words for an event other than a message; None: nothing to print."""
    match event:
        case wire.Connected(user):
            return f"connected as {name_of(user)}"
        case wire.Edit(text=""):
            return None  # a later edit has replaced it
        case wire.Edit() | wire.Deletion() | wire.Reaction():
            return f"{name_of(event.user)} {_change(event)}"
        case wire.Expiring(seconds):
            return f"your token runs out in {seconds:.0f} s"
        case events.Entered(room, members, resumed):
            here = f", {members} here" if members is not None else ""
            return f"{'back in' if resumed else 'in'} {printable(room)}{here}"
        case events.Gap(room):
            return f"some messages of {printable(room)} are gone for good and not shown"
        case events.Complaint(room, _, message):
            about = f"{printable(room)}: " if room is not None else ""
            return f"the server says: {about}{printable(message)}"
        case events.Postponed(message=message):
            return f"{printable(message)}; it will be sent by itself"
        case events.Reconnecting(why, delay):
            when = f" in {delay:.1f} s" if delay >= _BRIEF else ""  # later tries wait longer, and are not told of
            return f"{printable(why)}; reconnecting{when}…"
        case _:
            return None


def unsent(error: ChatError, room: str = "") -> str:
    """Return the words for a text that was refused, or was not acknowledged and may be stored."""
    doubt = "perhaps " if isinstance(error, Unavailable | Rejected) else ""
    return printable(f"{doubt}not sent{f' to {room}' if room else ''}: {error.message}")


class Narrator:
    """Words events, but the reason for a lost connection or a late text only once, not at each attempt."""

    def __init__(self) -> None:
        self._why = ""

    def words(self, event: events.Event) -> str | None:
        """Return the words for an event; None: nothing to print."""
        match event:
            case events.Postponed(delay=delay) if delay < _BRIEF:
                return None
            case events.Reconnecting(why=why) | events.Postponed(message=why):
                said, self._why = self._why, _NUMBER.sub("", why)  # the seconds to wait differ each time
                return None if self._why == said else status(event)
            case wire.Connected() | wire.Message():
                self._why = ""
        return status(event)


def presence(joined: Sequence[str], left: Sequence[str], members: int) -> str | None:
    """Return who joined and left in one line, however many; None without any change."""
    changes = [
        f"{_names(names) if len(names) <= _NAMES_SHOWN else f'{len(names)} people'} {verb}"
        for names, verb in ((joined, "joined"), (left, "left"))
        if names
    ]
    return f"{', '.join(changes)} · {members} here" if changes else None


def members(answer: wire.Members) -> str:
    names = _names(sorted((user.name for user in answer.members), key=str.lower))
    more = answer.count - len(answer.members)
    return f"{answer.count} in {printable(answer.room)}: {names}{f' and {more} more' if more > 0 else ''}"


def room_line(room: wire.RoomSummary, unread: wire.Unread | None, *, is_entered: bool) -> str:
    """Return a row of the list of rooms. What is unread is said of a room that is not entered, so not shown."""
    count = "1 message" if room.messages == 1 else f"{room.messages:,} messages and changes"
    facts = [count, f"{room.members} here"]
    if unread is not None and unread.unread and not is_entered:
        facts += [f"{unread.unread:,} unread"] + ([f"{unread.mentions:,} for you"] if unread.mentions else [])
    return f"{'*' if is_entered else ' '} {printable(room.room)}: {', '.join(facts)}"


def _change(record: wire.Edit | wire.Deletion | wire.Reaction) -> str:
    match record:
        case wire.Edit(target=target, text=text):
            return f"edited #{target}: {printable(text)}"
        case wire.Deletion(target=target):
            return f"deleted #{target}"
        case wire.Reaction(target=target, emoji=emoji, on=on, count=count):
            return f"{'put' if on else 'took'} {printable(emoji)} {'on' if on else 'off'} #{target} ({count})"


def _text(message: Message) -> str:
    return "(deleted)" if message.deleted else message.text


def _names(names: Sequence[str]) -> str:
    return ", ".join(printable(name) or "?" for name in names)
