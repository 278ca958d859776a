"""The people of `chat_model.py` at a server: each act makes requests, and compares the answers with the model.

Owns: the acts, and who listens over which transport. May not: start a server, or choose an act.
"""

import copy
import math
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import permutations
from typing import Any
from urllib.parse import quote

import trio
import trio.testing

from tests.api.chat_model import EVERYWHERE, PEOPLE, ROOMS, WORDS, Model, Person, Record, RefusedError
from tests.support.moderating import ELSEWHERE
from tests.support.peers import PATIENCE, Address, Answer, Chatter, EndOfStreamError, ask, chatter
from tests.support.peers import RefusedError as StatusError
from tests.support.transports import TRANSPORTS, JoinRefusedError, subscribe

NAMES = tuple(ROOMS)
*OTHERS, MODERATOR = PEOPLE
WRITES = ("publish", "reply", "edit", "delete", "react")
#: Seconds that pass, and for which a sanction is in force. No sum of the former is near one of the latter.
WAITS, TERMS = (1.3, 41.7, 1013.0), (math.inf, 20.0, 100.0, 500.0)
#: Real seconds without work after which nothing is under way.
QUIET = 0.002
#: Who writes in which room, and what.
Written = tuple[Person, str, Record]


class Listener:
    """Somebody who follows a room."""

    def __init__(self, who: Person, room: str, transport: str) -> None:
        self.who, self.room, self.transport = who, room, transport
        self._heard, self.heard = trio.open_memory_channel[Record | None](math.inf)

    async def run(self, address: Address, after: str) -> None:
        headers, source = self.who.headers, self.who.source
        try:
            async with subscribe(
                self.transport, address, self.room, after, headers=headers, source=source
            ) as subscriber:  # fmt: skip
                while True:
                    for record in await subscriber.batch():
                        self._heard.send_nowait(record)
        except (StatusError, JoinRefusedError, EndOfStreamError):
            self._heard.send_nowait(None)

    async def hears(self, *records: Record | None, or_else: Record | None = None) -> None:
        """The next records are these, or in the state that they have now; None is its end by the server."""
        for record in records:
            with trio.fail_after(PATIENCE):
                assert await self.heard.receive() in (record, or_else or record), (self.who.name, self.transport)


class Player:
    """One run of random acts: each makes a request, and compares."""

    def __init__(self) -> None:
        self.model = Model()
        self.address: Address
        self.nursery: trio.Nursery
        self.listeners: list[Listener] = []
        self.written: list[Written] = []

    async def begin(self, address: Address, nursery: trio.Nursery) -> None:
        self.address, self.nursery, self.listeners = address, nursery, []
        self.model.paced.clear()
        self.model.epoch = (await self.http(MODERATOR, "GET", "/rooms/lobby")).json["cursor"].partition("-")[0]
        for who in PEOPLE:
            self.model.users[who.name] = (await self.http(who, "GET", "/session")).json["user"]

    async def http(self, who: Person, method: str, path: str, body: Any = b"") -> Answer:
        headers = {**who.headers, "Content-Length": "0"} if body == b"" and method != "GET" else who.headers
        return await ask(self.address, method, path, body, headers=headers, source=who.source)

    async def request(self, who: Person, method: str, path: str, body: Any) -> Record:
        """Make a request over HTTP. Raises RefusedError."""
        answer = await self.http(who, method, path, body)
        if answer.status >= 400:
            raise RefusedError(answer.error)
        return dict(answer.json) if answer.body else {}

    async def command(self, who: Person, kind: str, room: str, **fields: Any) -> Record:
        """Make the same request over a WebSocket. Raises RefusedError."""
        async with chatter(self.address, headers=who.headers, source=who.source) as friend:
            return await tell(friend, kind, room=room, **fields)

    # -- writing ----------------------------------------------------------------------------------------------------

    def drawn(self, kind: str, who: Person, room: str, amount: int) -> Record:
        """A message, or a change to one: often to an own one, and perhaps to one that does not exist."""
        log = self.model.log[room]
        own = [each["offset"] for each in log if each["user"] == self.model.users[who.name] and "type" not in each]
        target = own[amount % len(own)] if own and amount % 3 else 1 + amount % (len(log) + 2)
        key = {"key": f"k{amount % 97}"} if amount % 2 else {}
        match kind:
            case "publish":
                mentions = [self.model.users[PEOPLE[amount % len(PEOPLE)].name]["id"]]
                named = {"mentions": mentions} if amount % 4 == 0 else {}
                return {"type": "message", "text": f"{WORDS[amount % 3]} {amount}", **named, **key}
            case "reply":
                return {"type": "message", "text": "tea", "reply_to": target, **key}
            case "edit":
                return {"type": "edit", "target": target, "text": f"{WORDS[amount % 3]} again {amount}", **key}
            case "delete":
                return {"type": "delete", "target": target, **key}
        return {"type": "reaction", "target": target, "emoji": "👍🎉"[amount % 2], "on": amount % 3 > 0, **key}

    async def write(self, kind: str, who: Person, room: str, amount: int) -> None:
        self.written.append((who, room, self.drawn(kind, who, room, amount)))
        await self.send(self.written[-1], by_http=amount % 5 < 3)

    async def again(self, who: Person, room: str, amount: int) -> None:
        """The same request as an earlier one, perhaps of another person, over another transport."""
        if self.written:
            author, room, act = self.written[amount % len(self.written)]
            await self.send((author if amount % 3 else who, room, act), by_http=amount % 2 > 0)

    async def together(self, who: Person, room: str, amount: int) -> None:
        """Two requests at once, which are answered as if one had come after the other."""
        if room == "slow":
            return  # a message that is refused in the end counts until then
        other, kinds = PEOPLE[amount // 5 % len(PEOPLE)], (WRITES[amount % 5], WRITES[amount // 5 % 5])
        pair = [
            (person, room, self.drawn(kind, person, room, amount + number))
            for number, (person, kind) in enumerate(zip((who, other), kinds, strict=True))
        ]
        self.written += pair
        await self.send(*pair, by_http=amount % 3 > 0)

    async def send(self, *written: Written, by_http: bool) -> None:
        """Make these requests at one time."""
        found: dict[int, Any] = {}

        async def request(number: int, making: Coroutine[Any, Any, Record]) -> None:
            found[number] = await refusal_or_answer(making)

        async with trio.open_nursery() as nursery:
            for number, each in enumerate(written):
                nursery.start_soon(request, number, self.making(*each, by_http=by_http))
        await self.answered([(each, found[number]) for number, each in enumerate(written)])

    def making(self, who: Person, room: str, act: Record, *, by_http: bool) -> Coroutine[Any, Any, Record]:
        kind: str = act["type"]
        fields = {name: value for name, value in act.items() if name not in ("type", "target")}
        if by_http or self.model.is_banned(who):
            path = f"/rooms/{room}/messages"
            if kind != "message":
                path += f"/{act['target']}"
            if kind == "reaction":
                path += f"/reactions/{quote(act['emoji'])}"
            method = {"message": "POST", "edit": "PATCH", "reaction": "PUT" if act.get("on") else "DELETE"}
            body = fields if "text" in act else {"key": act["key"]} if "key" in act else b""
            return self.request(who, method.get(kind, "DELETE"), path, body)
        place = {} if kind == "message" else {"offset": act["target"]}
        return self.command(who, {"message": "publish", "reaction": "react"}.get(kind, kind), room, **fields, **place)

    async def answered(self, answers: Sequence[tuple[Written, Any]]) -> None:
        """In some order the model answers the same; each listener hears the records in that order."""
        for order in permutations(answers):
            model = copy.deepcopy(self.model)
            added = [model.replay(*written, found) for written, found in order]
            if None not in added:
                break
        else:
            raise AssertionError(answers)
        self.model = model
        records = [record for each in added for record in each or ()]
        for listener in self.listeners:
            for record in records:
                if listener.room == record["room"]:
                    await listener.hears(record, or_else=model.log[record["room"]][record["offset"] - 1])

    # -- moderation -------------------------------------------------------------------------------------------------

    async def sanction(self, who: Person, room: str, amount: int) -> None:
        """By anybody, which only moderators may do, against one of the others or a network."""
        kind, room = ("ban", "mute")[amount % 2], EVERYWHERE if amount // 7 % 4 == 0 else room
        target, term = OTHERS[amount % len(OTHERS)], TERMS[amount % len(TERMS)]
        mark = {"network": ELSEWHERE} if amount % 5 == 0 else {"user": self.model.users[target.name]["id"]}
        by = MODERATOR if amount // 3 % 2 else who
        end = {} if term == math.inf else {"seconds": term}
        answer = await self.http(by, "POST", f"/rooms/{room}/sanctions", {"kind": kind, **mark, **end})
        refusal = self.model.refusal_to_sanction(by, room, mark.get("network", target.name))
        if refusal:
            assert answer.error == refusal
            return
        self.model.sanction(answer.json["id"], kind, room, mark.get("network", target.name), self.model.now + term)
        if kind == "ban":
            await self.part(lambda listener: not self.model.may(listener.who, listener.room, "r"))

    async def part(self, concerned: Callable[[Listener], bool]) -> None:
        """These listeners are taken out of their room."""
        for listener in filter(concerned, list(self.listeners)):
            await listener.hears(None)
            self.listeners.remove(listener)

    async def lift(self, who: Person, room: str, amount: int) -> None:
        in_force = [number for number, (*_, end) in self.model.sanctions.items() if self.model.now < end]
        if in_force:
            number = in_force[amount % len(in_force)]
            assert (await self.http(MODERATOR, "DELETE", f"/rooms/*/sanctions/{number}")).json["id"] == number
            del self.model.sanctions[number]

    async def kick(self, who: Person, room: str, amount: int) -> None:
        target = OTHERS[amount % len(OTHERS)]
        body = {"user": self.model.users[target.name]["id"]}
        assert (await self.http(MODERATOR, "POST", f"/rooms/{room}/kick", body)).status == 200
        await self.part(lambda listener: listener.who is target and listener.room == room)

    async def wait(self, who: Person, room: str, amount: int) -> None:
        """Until something may have ended: an edit window, a pause of slow mode, the memory of a key, a sanction."""
        await trio.testing.wait_all_tasks_blocked(QUIET)
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(WAITS[amount % len(WAITS)])
        await trio.testing.wait_all_tasks_blocked(QUIET)

    async def take_over(self, who: Person, room: str, amount: int) -> None:
        """Another user signs in on somebody's WebSocket: it stays in the rooms that this user may read, and writes."""
        model, now = self.model, PEOPLE[amount % len(PEOPLE)]._replace(source=who.source)
        if model.is_banned(who):
            return
        rooms = [name for name in NAMES if model.may(who, name, "r")]
        async with chatter(self.address, headers=who.headers, source=who.source) as friend:
            for name in rooms:
                await tell(friend, "join", room=name)
            signing_in = tell(friend, "auth", token=now.token)
            if model.is_banned(now):
                assert await refusal_or_answer(signing_in) == "forbidden"
                return
            assert (await signing_in)["user"] == model.users[now.name]
            stays = [name for name in rooms if model.may(now, name, "r")]
            left = [(await friend.next("left"))["room"] for name in rooms if name not in stays]
            assert sorted(stays + left) == sorted(rooms)
            for name in stays:
                assert model.users[now.name] in (await tell(friend, "members", room=name))["members"]
            written = now, room, self.drawn("publish", now, room, amount)
            fields = {field: value for field, value in written[2].items() if field != "type"}
            await self.answered([(written, await refusal_or_answer(tell(friend, "publish", room=room, **fields)))])
            for name in stays:  # a lost connection would stay for a while, in whatever network it was
                await tell(friend, "leave", room=name)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def follow(self, who: Person, room: str, amount: int) -> None:
        """Listen from a place on: first what is in the log after it, then what is written."""
        listener = Listener(who, room, TRANSPORTS[amount % 3])
        after = amount % (len(self.model.log[room]) + 1)
        self.nursery.start_soon(listener.run, self.address, f"{self.model.epoch}-{after}")
        if self.model.may(who, room, "r"):
            await listener.hears(*self.model.log[room][after:])
            self.listeners.append(listener)
        else:
            await listener.hears(None)

    async def read(self, who: Person, room: str, amount: int) -> None:
        """Move the read marker, perhaps back."""
        last = len(self.model.log[room])
        offset = amount % (last + 2)
        refusal = refusal_or(partial(self.model.check, who, room, "r"))
        if amount % 2 or self.model.is_banned(who):
            making = self.request(who, "PUT", f"/rooms/{room}/read", {"offset": offset})
            answer: Record = {}
        else:
            making = self.command(who, "read", room, offset=offset)
            answer = {"room": room, "offset": min(offset, last)}
        assert await refusal_or_answer(making) == (refusal or answer)
        if last and not refusal:
            before = self.model.markers.get((who.name, room), 0)
            self.model.markers[who.name, room] = max(before, min(offset, last))

    async def look(self, who: Person, room: str, amount: int) -> None:
        """Read what there is besides messages: lists, members, counts, and what is found."""
        await self.look_around(who, room, amount)
        await self.look_into(who, room, amount)

    async def look_around(self, who: Person, _: str, amount: int) -> None:
        """Read what is the same in each room."""
        model, word = self.model, WORDS[amount % 3]
        refusal = "forbidden" if model.is_banned(who) else None
        listed = await refusal_or_answer(self.request(who, "GET", "/rooms", b""))
        found = {each["room"]: each["messages"] for each in listed["rooms"]} if refusal is None else listed
        shown = [name for name in NAMES if ROOMS[name][2] or model.may(who, name, "r")]
        written = {name: len(model.log[name]) for name in shown if model.log[name]}
        assert refusal == found if refusal else {name: count for name, count in found.items() if count} == written
        unread = (await self.request(who, "GET", "/unread", b""))["rooms"]
        assert unread == model.unread(who), (who.name, unread, model.unread(who), model.markers)
        if refusal is None:
            await self.search(who, word, None, None)

    async def look_into(self, who: Person, room: str, amount: int) -> None:
        model, word = self.model, WORDS[amount % 3]
        refusal = refusal_or(partial(model.check, who, room, "r"))
        searched = f"/search?q=milk&room={room}" if not model.is_banned(who) else "/rooms/" + room
        for path in (f"/rooms/{room}", f"/poll?room={room}:0", searched, f"/rooms/{room}/members"):
            told = await refusal_or_answer(self.request(who, "GET", path, b""))
            assert isinstance(told, dict) if refusal is None else told == refusal
        if refusal is None:
            await self.search(who, word, room, model.users[PEOPLE[amount % len(PEOPLE)].name]["id"])
            there = [user["id"] for user in told["members"]]
            assert {model.users[each.who.name]["id"] for each in self.listeners if each.room == room} <= {*there}
            assert all(model.users[each.name]["id"] not in there for each in PEOPLE if not model.may(each, room, "r"))

    async def search(self, who: Person, word: str, room: str | None, author: str | None) -> None:
        """Results have the present texts of readable rooms; recent ones, which are cached, may lack the newest."""
        query = f"q={word}&limit=50" + (f"&room={room}&user={author}" if room else "")
        answer = await self.request(who, "GET", f"/search?{query}", b"")
        expected = self.model.found(who, word, room, author)
        for each in answer["results"]:
            del each["snippet"]
            assert each in expected
        assert answer["cached"] or len(answer["results"]) == len(expected)


def refusal_or(act: Callable[[], Any]) -> Any:
    """What an act of the model returns, or the code of its refusal."""
    try:
        return act()
    except RefusedError as refused:
        return refused.code


async def tell(friend: Chatter, kind: str, **fields: Any) -> Record:
    """Send a command over a WebSocket; what its answer has. Raises RefusedError."""
    told = await friend.ask(kind, **fields)
    if told.pop("type") == "error":
        raise RefusedError(told["code"])
    del told["id"]
    return dict(told)


async def refusal_or_answer(making: Coroutine[Any, Any, Record]) -> Any:
    """The same for a request."""
    try:
        return await making
    except RefusedError as refused:
        return refused.code
