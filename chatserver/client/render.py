"""Events as words for people: one line each, safe to print.

Owns: every sentence the terminal client says, and the escaping of what other people wrote.
May not: print. Text from the network must not move the cursor, change colours or fake a line.
"""

from datetime import datetime
from zlib import crc32

from chatserver.client import events
from chatserver.client.wire import Message, User

_NAME_COLOURS = (31, 32, 33, 34, 35, 36)  # SGR: the six that are readable on dark and on light
_ZERO_WIDTH_JOINER = "\u200d"  # a format character like those that fake text, but families of emoji need it
_MEMBERS_SHOWN = 100  # to a user who asks
_NAMES_SHOWN = 5  # in one line of presence; a room of thousands that reconnects is not a list worth reading


def printable(text: str) -> str:
    """Return `text` with control and format characters made visible: `\\x1b[2J` rather than a cleared screen."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == _ZERO_WIDTH_JOINER else ascii(char)[1:-1] for char in text)


def plain_line(message: Message) -> str:
    """Return a message as one line for pipes: `2026-11-20T12:00:00.123Z Ann: hi`."""
    return f"{printable(message.time)} {printable(message.user.name)}: {printable(message.text)}"


def pretty_lines(message: Message, *, colours: bool) -> str:
    """Return a message for people: local time, name, text with its line breaks kept and indented."""
    name = printable(message.user.name)
    lines = [printable(line) for line in message.text.splitlines()] or [""]
    text = f"\n{' ' * 7}".join(lines)
    clock = local_time(message, "%H:%M")
    if not colours:
        return f"{clock}  {name}: {text}"
    colour = _NAME_COLOURS[crc32(message.user.id.encode()) % len(_NAME_COLOURS)]
    return f"\x1b[2m{clock}\x1b[0m  \x1b[1;{colour}m{name}\x1b[0m  {text}"


def local_time(message: Message, form: str) -> str:
    """Return the local time of a message in this form of strftime, or as it came if it is none."""
    try:
        return f"{datetime.fromisoformat(message.time).astimezone():{form}}"
    except (ValueError, OverflowError):
        return printable(message.time)


def status(event: events.Event) -> str | None:
    """Return what to say about anything but a message; None: nothing."""
    match event:
        case events.Received() | events.Acknowledged() | events.GoingAway():
            return None  # the last is said by the Reconnecting that follows
        case events.Connected(user):
            return f"connected as {printable(user.name)}"
        case events.Entered(room, members, resumed):
            return f"{'back in' if resumed else 'in'} {printable(room)}, {members} here"
        case events.Lost(room):
            return f"some messages of {printable(room)} are gone for good and not shown"
        case events.PresenceChanged(_, joined, left, members):
            changes = [
                f"{_names(users, len(users), _NAMES_SHOWN)} {verb}"
                for users, verb in ((joined, "came"), (left, "left"))
                if users
            ]
            return f"{', '.join(changes)} · {members} here" if changes else None
        case events.Members(_, room, members, count):
            return f"{count} in {printable(room)}: {_names(members, count, _MEMBERS_SHOWN)}"
        case events.Refused(_, code, message):
            return f"not sent: {printable(message)} ({printable(code)})"
        case events.Complaint(room, code, message):
            about = f"{printable(room)}: " if room is not None else ""
            return f"the server says: {about}{printable(message)} ({printable(code)})"
        case events.Reconnecting(why, delay):
            return f"{printable(why)}; reconnecting in {delay:.1f} s…"


def _names(users: tuple[User, ...], count: int, most: int) -> str:
    shown = ", ".join(printable(user.name) for user in users[:most])
    more = count - len(users[:most])
    return f"{shown} and {more} more" if more > 0 else shown
