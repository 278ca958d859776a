"""A chat in plain dictionaries: what each request of each person answers, written from docs/protocol.md alone.

Owns: people, rooms, and what is expected. May not: import the server, or know a transport.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.support.moderating import ELSEWHERE, MODERATOR, guest, signed_in

#: How much each audience of a room asks for, and what a person brings along.
GUEST, SIGNED_IN, GRANTED, MODERATING = range(4)
#: For each room: who may read it, who may write in it, whether it is listed for all.
ROOMS: Mapping[str, tuple[int, int, bool]] = {
    "lobby": (GUEST, GUEST, False),
    "hall": (GUEST, SIGNED_IN, False),
    "vault": (GRANTED, GRANTED, True),
    "box": (MODERATING, GUEST, False),
    "slow": (GUEST, GUEST, False),
    "team-1": (SIGNED_IN, SIGNED_IN, False),
}
EVERYWHERE = "*"
#: Seconds between two messages in the slow room, in which a message may be edited, and in which a key is known.
SLOW, EDIT_WINDOW, KEY_LIFETIME = 30.0, 900.0, 600.0
WORDS = ("tea", "milk", "salt")

Record = dict[str, Any]


class Person(NamedTuple):
    """Somebody, and how the server knows."""

    name: str
    headers: dict[str, str]
    standing: int
    rooms: dict[str, str] | None = None  # patterns of rooms that the token names; None: it names none
    source: str = "127.0.0.1"

    @property
    def token(self) -> str:
        """What says who it is, on an open WebSocket."""
        [value] = self.headers.values()
        return value.removeprefix("Bearer ").removeprefix("chat_session=")

    def is_granted(self, room: str, letter: str) -> bool:
        """Whether the token allows it, if it names rooms."""
        if self.rooms is None:
            return True
        return any(letter in letters and fnmatchcase(room, pattern) for pattern, letters in self.rooms.items())

    def moderates(self, room: str) -> bool:
        """Whether it is a moderator there; "*": of any room."""
        rooms = ROOMS if room == EVERYWHERE else (room,)
        return self.standing == MODERATING and any(self.is_granted(each, "w") for each in rooms)


def _with_token(name: str, rooms: dict[str, str], role: str | None = None, source: str = ELSEWHERE) -> Person:
    headers = signed_in(f"u_{name}", rooms=rooms, **({"role": role} if role else {}))
    return Person(name, headers, MODERATING if role else SIGNED_IN, rooms, source)


PEOPLE = (
    Person("ann", guest("ann"), GUEST, source=ELSEWHERE),
    Person("gus", guest("gus"), GUEST),
    Person("bob", signed_in("u_bob"), SIGNED_IN, source=ELSEWHERE),
    _with_token("cat", {"vault": "rw", "hall": "r", "team-1": "rw"}, source="127.0.0.1"),
    _with_token("wes", {"*": "w", "vault": "rw"}),
    _with_token("tim", {"team-*": "rw", "hall": "w", "b?x": "r", "lobby": "rw"}, "moderator"),
    Person("mod", MODERATOR, MODERATING),
)  # fmt: skip


class RefusedError(Exception):
    """The argument is the code of the error."""

    @property
    def code(self) -> str:
        return str(self.args[0])


class Model:
    """The chat so far; each act returns what its answer has, or raises RefusedError."""

    def __init__(self) -> None:
        self.epoch = ""
        self.now = 0.0
        self.users: dict[str, dict[str, str]] = {}  # id and name of each person
        self.log: dict[str, list[Record]] = {room: [] for room in ROOMS}  # as pages show them
        self.written: dict[tuple[str, int], float] = {}  # when each record was
        self.reacted: dict[tuple[str, int], dict[str, set[str]]] = {}
        self.answers: dict[tuple[str, str, str], tuple[Record, float]] = {}  # by person, room and key; and when
        self.markers: dict[tuple[str, str], int] = {}
        self.sanctions: dict[int, tuple[str, str, str, float]] = {}  # kind, room, person's name or network, end
        self.paced: dict[str, tuple[float, str | None]] = {}  # when each wrote in the slow room, with which key

    # -- rights -----------------------------------------------------------------------------------------------------

    def granted(self, who: Person, room: str, letter: str) -> bool:
        """Whether the rules of the room and the token allow it, whatever moderators have done."""
        standing = who.standing if who.rooms is None else max(who.standing, GRANTED)
        return who.is_granted(room, letter) and standing >= ROOMS[room][letter == "w"]

    def sanctioned(self, who: Person, room: str, letter: str) -> bool:
        marks = {who.name} if who.moderates(room) else {who.name, who.source}
        return any(
            mark in marks and where in (room, EVERYWHERE) and (kind == "ban" or letter == "w") and self.now < end
            for kind, where, mark, end in self.sanctions.values()
        )

    def may(self, who: Person, room: str, letter: str) -> bool:
        return self.granted(who, room, letter) and not self.sanctioned(who, room, letter)

    def check(self, who: Person, room: str, letter: str) -> None:
        if not self.granted(who, room, letter):
            raise RefusedError(self.refusal(who))
        if self.sanctioned(who, room, letter):
            raise RefusedError("forbidden")

    def refusal(self, who: Person) -> str:
        """The code for what somebody has no right to: guests could sign in."""
        return "unauthenticated" if who.standing == GUEST else "forbidden"

    def is_banned(self, who: Person) -> bool:
        """Whether a ban from all rooms is in force."""
        return self.sanctioned(who, EVERYWHERE, "r")

    def refusal_to_sanction(self, by: Person, room: str, mark: str) -> str | None:
        """The code with which a mute or ban of somebody or of a network is refused."""
        if not (by.rooms is None or room != EVERYWHERE) or not by.moderates(room):
            return self.refusal(by)
        if self.sanctioned(by, room, "r"):
            return "forbidden"
        return "bad_field" if mark in (by.name, by.source) else None

    def sanction(self, number: int, kind: str, room: str, mark: str, end: float) -> None:
        """One of a kind for each mark and room; the last counts."""
        self.sanctions = {id_: each for id_, each in self.sanctions.items() if each[:3] != (kind, room, mark)}
        self.sanctions[number] = kind, room, mark, end

    # -- records ----------------------------------------------------------------------------------------------------

    def write(self, who: Person, room: str, act: Record) -> tuple[Record, bool]:
        """A message, an edit, a deletion or a reaction: the record without its time, and whether it is to be added."""
        try:
            return self._write(who, room, act)
        except RefusedError as refused:
            is_blind = not self.may(who, room, "r") and not (act["type"] == "delete" and who.moderates(room))
            if is_blind and refused.code in ("not_found", "gone") and not self._is_own(who, room, act):
                raise RefusedError("forbidden") from None  # what is there, only readers are told
            raise

    def _is_own(self, who: Person, room: str, act: Record) -> bool:
        target: int = act["target"] if "target" in act else act["reply_to"]
        return target <= len(self.log[room]) and self.log[room][target - 1]["user"] == self.users[who.name]

    def _write(self, who: Person, room: str, act: Record) -> tuple[Record, bool]:
        kind = act["type"]
        self.check(who, room, "w")
        if kind == "reaction" or "reply_to" in act:
            self.check(who, room, "r")
        if kind == "message" and room == "slow" and not who.moderates(room):
            at, key = self.paced.get(who.name, (-SLOW, None))
            is_early = self.now < at + SLOW
            if is_early and key != act.get("key", ""):
                raise RefusedError("rate_limited")
            if "reply_to" in act:
                self._message(room, act["reply_to"])  # a refused message does not count
            self.paced[who.name] = at if is_early else self.now, act.get("key")  # a retry is no other message
        known, at = self.answers.get((who.name, room, act.get("key", "")), ({}, 0.0))
        if known and self.now < at + KEY_LIFETIME:
            return known, False
        offset = len(self.log[room]) + 1
        place = {"room": room, "offset": offset, "cursor": f"{self.epoch}-{offset}"}
        if kind == "message":
            if "reply_to" in act:
                self._message(room, act["reply_to"])
            rest: Record = {name: act[name] for name in ("reply_to", "mentions") if name in act}
            return {**place, "user": self.users[who.name], "text": act["text"], "time": "", **rest}, True
        target = self._message(room, act["target"])
        if target.get("deleted"):
            raise RefusedError("gone")
        record = {"type": kind, **place, "target": act["target"]}
        if kind == "reaction":
            users = self.reacted.setdefault((room, act["target"]), {}).setdefault(act["emoji"], set())
            present, wanted = who.name in users, act["on"]
            count = len(users) + (wanted - present)
            record |= {"emoji": act["emoji"], "on": wanted, "count": count}
            if present == wanted:
                return {**record, "offset": offset - 1, "cursor": f"{self.epoch}-{offset - 1}", "time": ""}, False
        elif not (kind == "delete" and who.moderates(room)):
            is_late = self.now >= self.written[room, act["target"]] + EDIT_WINDOW
            if target["user"] != self.users[who.name] or is_late:
                raise RefusedError("forbidden")
        if kind == "edit":
            record["text"] = act["text"]
        return {**record, "user": self.users[who.name], "time": ""}, True

    def _message(self, room: str, offset: int) -> Record:
        log = self.log[room]
        if not 0 < offset <= len(log) or "type" in log[offset - 1]:
            raise RefusedError("not_found")
        return log[offset - 1]

    def replay(self, who: Person, room: str, act: Record, found: Record | str) -> list[Record] | None:
        """The records that a write adds, if `found` is its answer or the code of its refusal; else None."""
        try:
            record, is_new = self.write(who, room, act)
        except RefusedError as refused:
            return [] if found == refused.code else None
        if isinstance(found, str):
            return None
        answer: Record = {name: record[name] for name in ("room", "offset", "cursor", "count") if name in record}
        answer |= {"time": record["time"] or found["time"], "user": self.users[who.name]}
        if {"user": self.users[who.name], **found} != answer:
            return None
        if not is_new:
            return []
        record["time"] = found["time"]
        self.add(who, record, act.get("key"))
        return [record]

    def add(self, who: Person, record: Record, key: str | None) -> None:
        """What `write` returned was stored."""
        room, kind = record["room"], record.get("type")
        self.log[room].append(dict(record))
        self.written[room, record["offset"]] = self.now
        if key is not None:
            self.answers[who.name, room, key] = record, self.now
        if kind is None:
            return
        target = self.log[room][record["target"] - 1]
        if kind == "reaction":
            users = self.reacted[room, record["target"]]
            (set.add if record["on"] else set.discard)(users[record["emoji"]], who.name)
            if not users[record["emoji"]]:
                del users[record["emoji"]]
            target["reactions"] = {emoji: len(each) for emoji, each in users.items() if each}
            if not target["reactions"]:
                del target["reactions"]
            return
        for earlier in self.log[room][:-1]:
            if earlier.get("type") == "edit" and earlier["target"] == record["target"]:
                earlier["text"] = ""
        if kind == "edit":
            target |= {"text": record["text"], "edited": record["time"]}
            return
        self.reacted.pop((room, record["target"]), None)
        for gone in ("edited", "reactions", "mentions"):
            target.pop(gone, None)
        target |= {"text": "", "deleted": True}

    # -- reading ----------------------------------------------------------------------------------------------------

    def unread(self, who: Person) -> Record:
        me = self.users[who.name]["id"]
        found = {}
        for (name, room), read in self.markers.items():
            if name == who.name and self.may(who, room, "r"):
                new = [
                    each for each in self.log[room][read:]
                    if "type" not in each and each["user"]["id"] != me and not each.get("deleted")
                ]  # fmt: skip
                mentions = sum(me in each.get("mentions", ()) for each in new)
                found[room] = {"read": read, "unread": len(new), "mentions": mentions}
        return found

    def found(self, who: Person, word: str, room: str | None, author: str | None) -> list[Record]:
        return [
            record for name in ROOMS if room in (None, name) and self.may(who, name, "r")
            for record in self.log[name]
            if "type" not in record and word in record["text"] and author in (None, record["user"]["id"])
        ]  # fmt: skip
