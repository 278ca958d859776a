"""A chat in plain dictionaries: what each request of each person answers, written from docs/protocol.md alone.

Owns: people, rooms, and what is expected. May not: import the server, or know a transport.
"""

from typing import Any, NamedTuple

from tests.support.moderating import ELSEWHERE, MODERATOR, guest, signed_in

#: How much each audience of a room asks for, and what a person brings along.
GUEST, SIGNED_IN, GRANTED, MODERATING = range(4)
#: For each room: who may read it, who may write in it, whether it is listed for all.
ROOMS = {
    "lobby": (GUEST, GUEST, False),
    "hall": (GUEST, SIGNED_IN, False),
    "vault": (GRANTED, GRANTED, True),
    "box": (MODERATING, GUEST, False),
    "slow": (GUEST, GUEST, False),
    "team-1": (SIGNED_IN, SIGNED_IN, False),
}
EVERYWHERE = "*"
WORDS = ("tea", "milk", "salt")

Record = dict[str, Any]


class Person(NamedTuple):
    """Somebody, and how the server knows."""

    name: str
    headers: dict[str, str]
    standing: int
    rooms: dict[str, str] | None = None  # the rooms that the token names; None: it names none
    source: str = "127.0.0.1"


PEOPLE = (
    Person("ann", guest("ann"), GUEST, source=ELSEWHERE),
    Person("gus", guest("gus"), GUEST),
    Person("bob", signed_in("u_bob"), SIGNED_IN, source=ELSEWHERE),
    Person("cat", signed_in("u_cat", rooms={"vault": "rw", "hall": "r", "team-1": "rw"}), SIGNED_IN,
           {"vault": "rw", "hall": "r", "team-1": "rw"}),
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
        self.users: dict[str, dict[str, str]] = {}  # id and name of each person
        self.log: dict[str, list[Record]] = {room: [] for room in ROOMS}  # as pages show them
        self.reacted: dict[tuple[str, int], dict[str, set[str]]] = {}
        self.answers: dict[tuple[str, str, str], Record] = {}  # by person, room and key
        self.markers: dict[tuple[str, str], int] = {}
        self.sanctions: dict[int, tuple[str, str, str]] = {}  # kind, room, and a person's name or a network
        self.paced: dict[str, str | None] = {}  # who has used up the slow room, with which key

    # -- rights -----------------------------------------------------------------------------------------------------

    def granted(self, who: Person, room: str, letter: str) -> bool:
        """Whether the rules of the room and the token allow it, whatever moderators have done."""
        standing = who.standing
        if who.rooms is not None:
            if letter not in who.rooms.get(room, ""):
                return False
            standing = max(standing, GRANTED)
        return standing >= ROOMS[room][letter == "w"]

    def sanctioned(self, who: Person, room: str, letter: str) -> bool:
        marks = {who.name} if who.standing == MODERATING else {who.name, who.source}
        return any(
            mark in marks and where in (room, EVERYWHERE) and (kind == "ban" or letter == "w")
            for kind, where, mark in self.sanctions.values()
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

    def sanction(self, number: int, kind: str, room: str, mark: str) -> None:
        """One of a kind for each mark and room; the last counts."""
        self.sanctions = {id_: each for id_, each in self.sanctions.items() if each != (kind, room, mark)}
        self.sanctions[number] = kind, room, mark

    # -- records ----------------------------------------------------------------------------------------------------

    def write(self, who: Person, room: str, act: Record) -> tuple[Record, bool]:
        """A message, an edit, a deletion or a reaction: the record without its time, and whether it is to be added."""
        try:
            return self._write(who, room, act)
        except RefusedError as refused:
            if refused.code in ("not_found", "gone") and not self.may(who, room, "r"):
                raise RefusedError("forbidden") from None  # what is there, only readers are told
            raise

    def _write(self, who: Person, room: str, act: Record) -> tuple[Record, bool]:
        kind = act["type"]
        self.check(who, room, "w")
        if kind == "reaction" or "reply_to" in act:
            self.check(who, room, "r")
        if kind == "message" and room == "slow" and who.standing < MODERATING:
            if who.name in self.paced and self.paced[who.name] != act.get("key", ""):
                raise RefusedError("rate_limited")
            if "reply_to" in act:
                self._message(room, act["reply_to"])  # a refused message does not count
            self.paced[who.name] = act.get("key")  # a retry is no other message
        known = self.answers.get((who.name, room, act.get("key", "")))
        if known is not None:
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
        elif target["user"] != self.users[who.name] and not (kind == "delete" and who.standing == MODERATING):
            raise RefusedError("forbidden")
        elif kind == "edit":
            record["text"] = act["text"]
        return {**record, "user": self.users[who.name], "time": ""}, True

    def _message(self, room: str, offset: int) -> Record:
        log = self.log[room]
        if not 0 < offset <= len(log) or "type" in log[offset - 1]:
            raise RefusedError("not_found")
        return log[offset - 1]

    def add(self, who: Person, record: Record, key: str | None) -> None:
        """What `write` returned was stored."""
        room, kind = record["room"], record.get("type")
        self.log[room].append(dict(record))
        if key is not None:
            self.answers[who.name, room, key] = record
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
