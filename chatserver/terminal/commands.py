"""The commands of the terminal client: their table, parsing and completion.

Owns: these. May not: print, or carry out a command.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

MAX_MENTIONS = 20  # in one message, as in the server

#: Not within an address; other than Latin letters may precede an @, as Chinese has no blank there.
_NO_WORD = r"(?<!(?a:\w))"
#: Not within a word; Chinese, Japanese and Korean have no blank behind a Latin name.
_NAME_ENDS = r"(?:(?!\w)|(?<=(?a:\w))(?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]))"
_NUMBER = re.compile(r"#([1-9][0-9]{0,14})")
#: The most words of each kind of argument; any other kind is a text.
_MOST_WORDS = {"": 0, "ROOM": 1, "EMOJI": 1, "COMMAND": 1, "COUNT": 1}


class Command(NamedTuple):
    """A row of `/help`. `parse` uses `arguments`: `[#N]`, then a word or a text, in brackets if it is optional."""

    name: str
    arguments: str
    meaning: str

    @property
    def usage(self) -> str:
        """The row as one line."""
        return f"{self.name} {self.arguments}".rstrip() + f": {self.meaning}"


COMMANDS = (
    Command("/join", "ROOM", "enter a room and write there; the others stay"),
    Command("/leave", "[ROOM]", "leave this room, or another"),
    Command("/rooms", "", "list the server's rooms"),
    Command("/who", "[NAME]", "list who is here; with NAME, the id for chatserver admin"),
    Command("/older", "[COUNT]", "show the last 50, or COUNT, messages before those shown"),
    Command("/nick", "NAME", "take another name"),
    Command("/me", "TEXT", "say what you are doing"),
    Command("/reply", "[#N] TEXT", "answer message N, or the last message of another user"),
    Command("/edit", "[#N] TEXT", "change a message of yours, or your last one"),
    Command("/delete", "[#N]", "delete a message, or your last one"),
    Command("/react", "[#N] EMOJI", "put an emoji on message N or the last; -EMOJI takes it off"),
    Command("/search", "WORDS", "search all rooms that you may read"),
    Command("/help", "[COMMAND]", "show this; what begins with // is said, with one slash"),
    Command("/quit", "", "leave; so does Ctrl-D"),
)

#: Commands that act on the current room.
IN_A_ROOM = frozenset(("/leave", "/who", "/older", "/me", "/reply", "/edit", "/delete", "/react"))

#: Commands that write into the current room.
CHANGES = frozenset(("/edit", "/delete", "/react"))

#: Emoji with names, which are easier to type; a name in colons works wherever an emoji is expected.
EMOJI = {
    "+1": "👍", "-1": "👎", "heart": "❤️", "tada": "🎉", "joy": "😂", "smile": "🙂", "sad": "😢", "eyes": "👀",
    "fire": "🔥", "rocket": "🚀", "thinking": "🤔", "wave": "👋", "ok": "👌", "clap": "👏", "check": "✅", "x": "❌",
}  # fmt: skip


class Typed(NamedTuple):
    """A command as typed: its name, the message that it refers to, and the rest of the line with its line breaks."""

    name: str
    offset: int | None
    rest: str


class BadCommand(Exception):  # noqa: N818  (a user's mistake, no fault)
    """A line that begins with a slash and is no command, or one with wrong arguments; the message is for the user."""


def said(line: str) -> str | None:
    """Return the text of a line; None if it is a command. `//x` is the text `/x`, and `/a/path` is a text."""
    if line.startswith("//"):
        return line[1:]
    return None if line.startswith("/") and "/" not in line.split(maxsplit=1)[0][1:] else line


def parse(line: str) -> Typed:
    """Return the command in a line. Raises BadCommand."""
    name, rest = _split(line)
    command, offset = _named(name), None
    arguments = command.arguments.removeprefix("[#N]").strip()
    if arguments != command.arguments:
        first, after = _split(rest)
        if found := _NUMBER.fullmatch(first):
            offset, rest = int(found[1]), after
        elif arguments != "TEXT" and _NUMBER.fullmatch(f"#{first}"):  # a text may begin with a number
            raise BadCommand(f"message {first} is #{first} here. {command.usage}")
    if not rest and arguments and not arguments.startswith("["):
        raise BadCommand(command.usage)
    most = _MOST_WORDS.get(arguments.strip("[]"))
    if most is not None and (surplus := rest.split()[most:]):
        raise BadCommand(f"{surplus[0]!r} is too much here. {command.usage}")
    if arguments == "EMOJI" and re.fullmatch(r":\w+:", unknown := emoji(rest)[0]):
        raise BadCommand(f"no emoji is called {unknown} here; Tab goes through those that have names")
    if rest and arguments == "[COUNT]" and not re.fullmatch("[1-9][0-9]{0,2}", rest):
        raise BadCommand(f"{rest!r} is no number from 1 to 999. {command.usage}")
    if rest and arguments == "[COMMAND]":
        rest = _named(f"/{rest.removeprefix('/')}").name
    elif arguments.strip("[]") == "ROOM":
        rest = rest.removeprefix("#").lower()  # as the page writes it, and people do
    return Typed(command.name, offset, rest)


def _named(name: str) -> Command:
    command = next((row for row in COMMANDS if row.name == name.lower()), None)
    if command is None:
        raise BadCommand(f"no such command: {name}; /help lists them, and /{name} says {name}")
    return command


def _split(text: str) -> tuple[str, str]:
    """Return the first word and the rest."""
    first, *rest = text.split(maxsplit=1) or [""]
    return first, "".join(rest).rstrip()


def emoji(text: str) -> tuple[str, bool]:
    """Return the emoji meant by `:tada:`, `tada`, `🎉` or `-🎉`, and whether to add it."""
    on = not (text.startswith("-") and text != "-1")
    name = text if on else text[1:]
    return EMOJI.get(name.strip(":"), name), on


def help_lines(name: str = "", *, columns: int = 78) -> list[str]:
    """Return a line for each command and the meaning of #N, as a table if it fits; or the line of the named command."""
    if name:
        return [_named(name).usage]
    width = max(len(f"{command.name} {command.arguments}") for command in COMMANDS)
    table = [f"{f'{command.name} {command.arguments}':<{width}}  {command.meaning}" for command in COMMANDS]
    return [
        *(table if max(map(len, table)) <= columns else (command.usage for command in COMMANDS)),
        "#N is a message's number, as shown before its author",
    ]


def complete(before: str, *, people: Iterable[str], rooms: Iterable[str]) -> tuple[str, Sequence[str]]:
    """Return the part of the text before the cursor that stays, and the completions for its last word."""
    first, space, rest = before.partition(" ")
    if not space and first.startswith("/"):
        return "", _matching(first, (f"{command.name} " for command in COMMANDS))
    if first in ("/join", "/leave"):
        return f"{first} ", _matching(rest, (f"{room} " for room in rooms))
    if mention := re.search(rf"{_NO_WORD}@[^@]*$", before):  # a name may have spaces
        kept, stem = before[: mention.start()], mention[0]
        if found := _matching(stem, (f"@{name} " for name in people)):
            return kept, found
    word_at = before.rfind(" ") + 1
    word, kept = before[word_at:], before[:word_at]
    if first == "/react":
        sign = "-" if word.startswith("-") else ""
        return kept, _matching(word, (f"{sign}:{name}: " for name in EMOJI))
    if word.startswith("#"):
        return kept, _matching(word, (f"#{room} " for room in rooms))
    if word:
        return kept, _matching(word, (f"{name} " if kept else f"{name}: " for name in people))
    return before, ()


def mentioned(text: str, people: Mapping[str, str]) -> list[str]:
    """Return the ids of users mentioned with @, given names by id.

    At each @ the longest name that fits counts, but no part of a longer word.
    """
    text = unicodedata.normalize("NFC", text)  # as the names are
    # Only names in the text: a pattern of a thousand names takes 0.1 s to compile, and `re` keeps 512 of them, 70 MB.
    names = sorted({re.escape(name) for name in people.values() if f"@{name}" in text}, key=len, reverse=True)
    found = re.finditer(rf"{_NO_WORD}@({'|'.join(names)}){_NAME_ENDS}", text)
    # Vowel signs, as of Hindi, are no `\w`, but part of a word.
    called = {each[1] for each in found if unicodedata.category((text[each.end() :] or " ")[0])[0] != "M"}
    return [id_ for id_, name in people.items() if name in called][:MAX_MENTIONS]


def _matching(stem: str, words: Iterable[str]) -> list[str]:
    matching = (word for word in words if word.lower().startswith(stem.lower()))
    return sorted(dict.fromkeys(matching), key=str.lower)  # several users may have one name
