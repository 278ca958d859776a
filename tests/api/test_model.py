"""The chat beside a model of it: random requests of five people, over every transport, in memory and in a file.

Each answer, each record that is pushed to each listener, and everything that somebody can read is compared with
`chat_model.py`. HYPOTHESIS_EXAMPLES=1000 searches for longer.
"""

import math
import os
import signal
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from chatserver.settings.rooms import Audience, RoomPolicy
from tests.api.chat_model import EVERYWHERE, MODERATING, PEOPLE, ROOMS, WORDS, Model, Person, Record, RefusedError
from tests.support.examples import new_examples
from tests.support.moderating import ELSEWHERE
from tests.support.peers import PATIENCE, Address, Answer, EndOfStreamError, ask, chatter
from tests.support.peers import RefusedError as StatusError
from tests.support.serving import Serving, eventually, serving
from tests.support.tokens import secret_file
from tests.support.transports import TRANSPORTS, JoinRefusedError, subscribe

NAMES = tuple(ROOMS)
POLICIES = tuple(
    (name, RoomPolicy(list(Audience)[read], list(Audience)[write], listed, 3600.0 if name == "slow" else 0.0))
    for name, (read, write, listed) in ROOMS.items()
)
*_, MODERATOR = PEOPLE
ACTS = (
    "publish publish publish publish publish reply edit edit delete react react react again again read follow follow "
    "follow sanction lift kick look restart"
).split()
#: The name of an act, who does it, in which room, and a number that decides the rest.
Act = tuple[str, int, int, int]
ACT = st.tuples(st.sampled_from(ACTS), st.integers(0, 4), st.integers(0, len(NAMES) - 1), st.integers(0, 999))


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

    async def hears(self, *records: Record | None) -> None:
        """The next records are these; None is its end by the server."""
        for record in records:
            with trio.fail_after(PATIENCE):
                assert await self.heard.receive() == record, (self.who.name, self.transport)


class Play:
    """One run of random acts: each makes a request, and compares."""

    def __init__(self) -> None:
        self.model = Model()
        self.address: Address
        self.nursery: trio.Nursery
        self.listeners: list[Listener] = []
        self.written: list[tuple[Person, str, Record]] = []

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

    async def command(self, who: Person, kind: str, **fields: Any) -> Record:
        """Make the same request over a WebSocket. Raises RefusedError."""
        async with chatter(self.address, headers=who.headers, source=who.source) as friend:
            told = await friend.ask(kind, **fields)
        if told.pop("type") == "error":
            raise RefusedError(told["code"])
        del told["id"]
        return dict(told)

    # -- writing ----------------------------------------------------------------------------------------------------

    async def publish(self, who: Person, room: str, amount: int) -> None:
        mentions = {"mentions": [self.model.users[PEOPLE[amount % 5].name]["id"]]} if amount % 4 == 0 else {}
        await self.write(who, room, amount, type="message", text=f"{WORDS[amount % 3]} {amount}", **mentions)

    async def reply(self, who: Person, room: str, amount: int) -> None:
        await self.write(who, room, amount, type="message", text="tea", reply_to=self.target(room, amount))

    async def edit(self, who: Person, room: str, amount: int) -> None:
        text = f"{WORDS[amount % 3]} again {amount}"
        await self.write(who, room, amount, type="edit", target=self.target(room, amount), text=text)

    async def delete(self, who: Person, room: str, amount: int) -> None:
        await self.write(who, room, amount, type="delete", target=self.target(room, amount))

    async def react(self, who: Person, room: str, amount: int) -> None:
        emoji, on = "👍🎉"[amount % 2], amount % 3 > 0
        await self.write(who, room, amount, type="reaction", target=self.target(room, amount), emoji=emoji, on=on)

    def target(self, room: str, amount: int) -> int:
        """A record of a room, or one that does not exist."""
        return 1 + amount % (len(self.model.log[room]) + 2)

    async def write(self, who: Person, room: str, amount: int, **act: Any) -> None:
        if amount % 2:
            act["key"] = f"k{amount % 97}"
        self.written.append((who, room, act))
        await self._write(who, room, act, by_http=amount % 5 < 3)

    async def again(self, who: Person, room: str, amount: int) -> None:
        """The same request as an earlier one, perhaps of another person, over another transport."""
        if self.written:
            author, room, act = self.written[amount % len(self.written)]
            await self._write(author if amount % 3 else who, room, act, by_http=amount % 2 > 0)

    async def _write(self, who: Person, room: str, act: Record, *, by_http: bool) -> None:
        expected = refusal_or(partial(self.model.write, who, room, act))
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
            making = self.request(who, method.get(kind, "DELETE"), path, body)
        else:
            place = {} if kind == "message" else {"offset": act["target"]}
            command = {"message": "publish", "reaction": "react"}.get(kind, kind)
            making = self.command(who, command, room=room, **fields, **place)
        found = await refusal_or_answer(making)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected, (who.name, room, act)
            return
        record, is_new = expected
        assert found.pop("user", None) in (None, self.model.users[who.name])
        time = found.pop("time")
        assert found == {name: record[name] for name in ("room", "offset", "cursor", "count") if name in record}
        if not is_new:
            assert record["time"] in ("", time)
            return
        record["time"] = time
        self.model.add(who, record, act.get("key"))
        for listener in self.listeners:
            if listener.room == room:
                await listener.hears(record)

    # -- moderation -------------------------------------------------------------------------------------------------

    async def sanction(self, who: Person, room: str, amount: int) -> None:
        """By anybody, which only the moderator may do, against one of the others or a network."""
        kind, room = ("ban", "mute")[amount % 2], EVERYWHERE if amount % 7 == 0 else room
        target = PEOPLE[amount % 4]
        mark = {"network": ELSEWHERE} if amount % 5 == 0 else {"user": self.model.users[target.name]["id"]}
        by = MODERATOR if amount % 3 else who
        answer = await self.http(by, "POST", f"/rooms/{room}/sanctions", {"kind": kind, **mark})
        if by.standing < MODERATING:
            assert answer.error == self.model.refusal(by)
            return
        self.model.sanction(answer.json["id"], kind, room, mark.get("network", target.name))
        if kind == "ban":
            await self.part(lambda listener: not self.model.may(listener.who, listener.room, "r"))

    async def part(self, concerned: Callable[[Listener], bool]) -> None:
        """These listeners are taken out of their room."""
        for listener in filter(concerned, list(self.listeners)):
            await listener.hears(None)
            self.listeners.remove(listener)

    async def lift(self, who: Person, room: str, amount: int) -> None:
        if self.model.sanctions:
            number = list(self.model.sanctions)[amount % len(self.model.sanctions)]
            assert (await self.http(MODERATOR, "DELETE", f"/rooms/*/sanctions/{number}")).json["id"] == number
            del self.model.sanctions[number]

    async def kick(self, who: Person, room: str, amount: int) -> None:
        target = PEOPLE[amount % 4]
        body = {"user": self.model.users[target.name]["id"]}
        assert (await self.http(MODERATOR, "POST", f"/rooms/{room}/kick", body)).status == 200
        await self.part(lambda listener: listener.who is target and listener.room == room)

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
            making = self.command(who, "read", room=room, offset=offset)
            answer = {"room": room, "offset": min(offset, last)}
        assert await refusal_or_answer(making) == (refusal or answer)
        if last and not refusal:
            before = self.model.markers.get((who.name, room), 0)
            self.model.markers[who.name, room] = max(before, min(offset, last))

    async def look(self, who: Person, room: str, amount: int) -> None:
        """Read what there is besides messages: lists, members, counts, and what is found."""
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
        refusal = refusal_or(partial(model.check, who, room, "r"))
        searched = f"/search?q=milk&room={room}" if not model.is_banned(who) else "/rooms/" + room
        for path in (f"/rooms/{room}", f"/poll?room={room}:0", searched, f"/rooms/{room}/members"):
            told = await refusal_or_answer(self.request(who, "GET", path, b""))
            assert isinstance(told, dict) if refusal is None else told == refusal
        if refusal is None:
            await self.search(who, word, room, model.users[PEOPLE[amount % 5].name]["id"])
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


async def refusal_or_answer(making: Coroutine[Any, Any, Record]) -> Any:
    """The same for a request."""
    try:
        return await making
    except RefusedError as refused:
        return refused.code


async def play(acts: list[Act], engine: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings: Any = {
            "token_key": (secret_file(Path(folder)),), "rooms": POLICIES, "presence_grace": 1.0,
            "log": engine.format(folder=folder),
        }  # fmt: skip
        running = Play()
        left = [*acts, *(("look", who, room, who + room) for who in range(5) for room in range(len(NAMES)))]
        while left:
            async with serving(**settings) as server:
                async with trio.open_nursery() as nursery:
                    await running.begin(server.address, nursery)
                    while left:
                        name, who, room, amount = left.pop(0)
                        if name != "restart":
                            await getattr(running, name)(PEOPLE[who], NAMES[room], amount)
                        elif engine != "memory:":
                            break
                    assert all(listener.heard.statistics().current_buffer_used == 0 for listener in running.listeners)
                    nursery.cancel_scope.cancel()
                os.kill(os.getpid(), signal.SIGTERM)
                await eventually(partial(is_stopped, server))


def is_stopped(server: Serving) -> bool:
    """Whether it has stopped as before a restart, with all markers stored."""
    stopped = any(line["event"] == "stopped" for line in server.logs)
    return stopped and server.server.parts.services.markers.waiting == 0


@pytest.mark.parametrize("engine", ["memory:", "sqlite:{folder}/chat.db"])
@new_examples(5)
@given(acts=st.lists(ACT, min_size=15, max_size=60))
def test_the_chat_is_as_the_model(engine: str, acts: list[Act]) -> None:
    trio.run(play, acts, engine)
