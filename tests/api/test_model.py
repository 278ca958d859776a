"""The chat beside a model of it: random requests of five people, over every transport, in memory and in a file.

Each answer, each record that is pushed to each listener, and at the end everything that anybody can read is compared
with `chat_model.py`.
"""

import math
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
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
from tests.support.examples import examples
from tests.support.moderating import ELSEWHERE, MODERATOR
from tests.support.peers import PATIENCE, Address, Answer, Chatter, ClosedError, EndOfStreamError, ask, chatter
from tests.support.peers import RefusedError as AnswerError
from tests.support.serving import Serving, eventually, serving
from tests.support.tokens import secret_file
from tests.support.transports import TRANSPORTS, JoinRefusedError, subscribe

NAMES = tuple(ROOMS)
POLICIES = tuple(
    (name, RoomPolicy(list(Audience)[read], list(Audience)[write], listed, 3600.0 if name == "slow" else 0.0))
    for name, (read, write, listed) in ROOMS.items()
)
EMOJI = ("👍", "🎉")
ACTS = (
    "publish publish publish publish publish reply edit edit delete react react react again again read follow follow "
    "follow sanction lift kick look page page restart"
).split()
ACT = st.tuples(st.sampled_from(ACTS), st.integers(0, 4), st.integers(0, 29), st.integers(0, 999))


class Listener:
    """Somebody who follows a room, and what it has heard."""

    def __init__(self, who: Person, room: str, transport: str) -> None:
        self.who, self.room, self.transport = who, room, transport
        self.scope = trio.CancelScope()
        self._heard, self._received = trio.open_memory_channel[Record | None](math.inf)

    async def run(self, address: Address, after: str) -> None:
        with self.scope:
            try:
                async with subscribe(
                    self.transport, address, self.room, after, headers=self.who.headers, source=self.who.source
                ) as subscriber:
                    while True:
                        for record in await subscriber.batch():
                            self._heard.send_nowait(record)
            except (AnswerError, JoinRefusedError, EndOfStreamError, ClosedError):
                self._heard.send_nowait(None)

    async def next(self) -> Record | None:
        """The next record; None: the server has ended it."""
        with trio.fail_after(PATIENCE):
            return await self._received.receive()

    def silent(self) -> bool:
        return self._received.statistics().current_buffer_used == 0


class Play:
    """One run of random acts: each `act` makes a request, and compares."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.address: Address
        self.nursery: trio.Nursery
        self.voices: dict[str, Chatter] = {}
        self.listeners: list[Listener] = []
        self.written: list[tuple[Person, str, Record]] = []  # acts with a key

    async def begin(self, address: Address, nursery: trio.Nursery, stack: AsyncExitStack) -> None:
        self.address, self.nursery, self.listeners, self._stack = address, nursery, [], stack
        self.voices = {}
        self.model.paced.clear()
        head = (await self.http(PEOPLE[4], "GET", "/rooms/lobby")).json
        self.model.epoch = head["cursor"].partition("-")[0]
        for who in PEOPLE:
            self.model.users[who.name] = (await self.http(who, "GET", "/session")).json["user"]

    async def http(self, who: Person, method: str, path: str, body: Any = b"") -> Answer:
        headers = {**who.headers, "Content-Length": "0"} if body == b"" and method != "GET" else who.headers
        return await ask(self.address, method, path, body, headers=headers, source=who.source)

    async def voice(self, who: Person) -> Chatter | None:
        """The WebSocket of a person, who is not banned everywhere."""
        if self.model.banned(who):
            return None
        if who.name not in self.voices:
            opening = chatter(self.address, headers=who.headers, source=who.source)
            self.voices[who.name] = await self._stack.enter_async_context(opening)
        return self.voices[who.name]

    async def ask(self, who: Person, method: str, path: str, body: Any, command: Record, *, by_http: bool) -> Record:
        """Make a request over one of the transports. Raises RefusedError."""
        voice = None if by_http else await self.voice(who)
        if voice is None:
            answer = await self.http(who, method, path, body)
            if answer.status >= 400:
                raise RefusedError(answer.error)
            return dict(answer.json) if answer.body else {}
        told = await voice.ask(command.pop("type"), **command)
        if told["type"] == "error":
            raise RefusedError(told["code"])
        return {name: value for name, value in told.items() if name not in ("type", "id")}

    # -- writing ----------------------------------------------------------------------------------------------------

    def target(self, room: str, amount: int) -> int:
        return 1 + amount % (len(self.model.log[room]) + 2)

    async def publish(self, who: Person, room: str, amount: int) -> None:
        act: Record = {"type": "message", "text": f"{WORDS[amount % 3]} {amount}"}
        if amount % 4 == 0:
            act["mentions"] = [self.model.users[PEOPLE[amount % 5].name]["id"]]
        await self.write(who, room, act, amount)

    async def reply(self, who: Person, room: str, amount: int) -> None:
        await self.write(who, room, {"type": "message", "text": "tea", "reply_to": self.target(room, amount)}, amount)

    async def edit(self, who: Person, room: str, amount: int) -> None:
        text = f"{WORDS[amount % 3]} again {amount}"
        await self.write(who, room, {"type": "edit", "target": self.target(room, amount), "text": text}, amount)

    async def delete(self, who: Person, room: str, amount: int) -> None:
        await self.write(who, room, {"type": "delete", "target": self.target(room, amount)}, amount)

    async def react(self, who: Person, room: str, amount: int) -> None:
        act = {"target": self.target(room, amount), "emoji": EMOJI[amount % 2], "on": amount % 3 > 0}
        await self.write(who, room, {"type": "reaction", **act}, amount)

    async def write(self, who: Person, room: str, act: Record, amount: int) -> None:
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
        expected = answered(lambda: self.model.write(who, room, act))
        kind, key = act["type"], act.get("key")
        fields = {name: value for name, value in act.items() if name not in ("type", "target")}
        path = f"/rooms/{room}/messages"
        if kind == "message":
            method, command = "POST", {"type": "publish", **fields}
        else:
            path += f"/{act['target']}"
            method = {"edit": "PATCH", "delete": "DELETE", "reaction": "PUT" if act.get("on") else "DELETE"}[kind]
            command = {"type": "react" if kind == "reaction" else kind, "offset": act["target"], **fields}
        body: Any = fields
        if kind == "reaction":
            path += f"/reactions/{quote(act['emoji'])}"
        if kind in ("reaction", "delete"):
            body = b"" if key is None else {"key": key}
        found = await answered_later(self.ask(who, method, path, body, {"room": room, **command}, by_http=by_http))
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected, (who.name, room, act)
            return
        shown = {name: expected[name] for name in ("room", "offset", "cursor", "count") if name in expected}
        if "user" in found:
            assert found.pop("user") == self.model.users[who.name]
        time = found.pop("time")
        assert found == shown, (who.name, act)
        if "again" in expected:
            assert expected.get("time", time) == time
            return
        expected["time"] = time
        self.model.add(who, expected, key)
        for listener in self.listeners:
            if listener.room == room:
                assert await listener.next() == expected, (listener.who.name, listener.transport)

    # -- moderation -------------------------------------------------------------------------------------------------

    async def sanction(self, who: Person, room: str, amount: int) -> None:
        """By anybody, which only the moderator may do, against one of the others or a network."""
        kind, room = ("ban", "mute")[amount % 2], EVERYWHERE if amount % 7 == 0 else room
        target = PEOPLE[amount % 4]
        user = self.model.users[target.name]["id"]
        mark = {"network": ELSEWHERE} if amount % 5 == 0 else {"user": user}
        by = PEOPLE[4] if amount % 3 else who
        answer = await self.http(by, "POST", f"/rooms/{room}/sanctions", {"kind": kind, **mark})
        if by.standing < MODERATING:
            expected = "forbidden" if by.headers.keys() == MODERATOR.keys() else "unauthenticated"
            assert answer.error == expected
            return
        assert answer.status == 201, answer
        self.model.sanction(answer.json["id"], kind, room, ELSEWHERE if "network" in mark else target.name)
        if kind == "ban":
            await self.part(lambda listener: not self.model.may(listener.who, listener.room, "r"))
            for person in PEOPLE:
                if self.model.banned(person) and person.name in self.voices:
                    assert (await self.voices.pop(person.name).closed()).code == 4504

    async def part(self, concerned: Callable[[Listener], bool]) -> None:
        """These listeners are taken out of their room."""
        for listener in filter(concerned, list(self.listeners)):
            assert await listener.next() is None
            self.listeners.remove(listener)

    async def lift(self, who: Person, room: str, amount: int) -> None:
        if self.model.sanctions:
            number = list(self.model.sanctions)[amount % len(self.model.sanctions)]
            answer = await self.http(PEOPLE[4], "DELETE", f"/rooms/*/sanctions/{number}")
            assert answer.json["id"] == number
            del self.model.sanctions[number]

    async def kick(self, who: Person, room: str, amount: int) -> None:
        target = PEOPLE[amount % 4]
        user = self.model.users[target.name]["id"]
        answer = await self.http(PEOPLE[4], "POST", f"/rooms/{room}/kick", {"user": user})
        assert answer.status == 200
        await self.part(lambda listener: listener.who is target and listener.room == room)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def follow(self, who: Person, room: str, amount: int) -> None:
        """Listen from a place on: first what is in the log after it, then what is written."""
        listener = Listener(who, room, TRANSPORTS[amount % 3])
        after = amount % (len(self.model.log[room]) + 1)
        self.nursery.start_soon(listener.run, self.address, f"{self.model.epoch}-{after}")
        if not self.model.may(who, room, "r"):
            assert await listener.next() is None
            return
        for record in self.model.log[room][after:]:
            assert await listener.next() == record, (who.name, listener.transport)
        self.listeners.append(listener)
        if len(self.listeners) > 6:
            self.listeners.pop(0).scope.cancel()
        await self.http(PEOPLE[4], "GET", "/healthz")

    async def read(self, who: Person, room: str, amount: int) -> None:
        offset = amount % (len(self.model.log[room]) + 2)
        expected = answered(lambda: self.model.check(who, room, "r"))
        command = {"type": "read", "room": room, "offset": offset}
        path = f"/rooms/{room}/read"
        found = await answered_later(self.ask(who, "PUT", path, {"offset": offset}, command, by_http=amount % 2 > 0))
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
            return
        offset = min(offset, len(self.model.log[room]))
        assert found in ({}, {"room": room, "offset": offset})
        if self.model.log[room]:
            before = self.model.markers.get((who.name, room), 0)
            self.model.markers[who.name, room] = max(before, offset)

    async def page(self, who: Person, room: str, amount: int) -> None:
        last = len(self.model.log[room])
        place = amount % (last + 3)
        given = {"after": place} if amount % 3 == 0 else {"before": place} if amount % 3 == 1 else {}
        limit = (1, 2, 5, 50)[amount % 4]
        only = amount % 5 == 0
        expected = answered(lambda: self.model.check(who, room, "r"))
        if expected is None:
            expected = self.model.page(
                room, after=given.get("after"), before=given.get("before"), limit=limit, messages_only=only
            )
        query = "".join(f"&{name}={value}" for name, value in given.items()) + "&kinds=message" * only
        command = {"type": "history", "room": room, "limit": limit, **given}
        path = f"/rooms/{room}/messages?limit={limit}{query}"
        by_http = only or amount % 2 > 0
        assert await answered_later(self.ask(who, "GET", path, b"", command, by_http=by_http)) == expected, path

    async def look(self, who: Person, room: str, amount: int) -> None:
        """Everything that a person can read."""
        model = self.model
        listed = await self.http(who, "GET", "/rooms")
        if model.banned(who):
            assert (listed.error, (await self.http(who, "GET", "/search?q=tea")).error) == ("forbidden", "forbidden")
        else:
            shown = [name for name in NAMES if model.log[name] and (ROOMS[name][2] or model.may(who, name, "r"))]
            found = {each["room"]: each["messages"] for each in listed.json["rooms"] if each["messages"]}
            assert found == {name: len(model.log[name]) for name in shown}
            await self.search(who, WORDS[amount % 3], None, None)
        unread = (await self.http(who, "GET", "/unread")).json["rooms"]
        assert unread == model.unread(who), (who.name, unread, model.unread(who))
        refusal = answered(lambda: model.check(who, room, "r"))
        for path in (f"/rooms/{room}", f"/rooms/{room}/members", f"/poll?room={room}:0", f"/rooms/{room}/events"):
            if refusal is not None or "events" not in path:
                answer = await self.http(who, "GET", path)
                assert (answer.error if answer.status >= 400 else None) == refusal, path
        if refusal is None:
            await self.search(who, WORDS[amount % 3], room, None)
            await self.search(who, WORDS[amount % 3], room, model.users[PEOPLE[amount % 5].name]["id"])
            members = (await self.http(who, "GET", f"/rooms/{room}/members")).json["members"]
            here = [each.who for each in self.listeners if each.room == room]
            assert all(model.users[each.name] in members for each in here)
            assert all(model.users[each.name] not in members for each in PEOPLE if not model.may(each, room, "r"))

    async def search(self, who: Person, word: str, room: str | None, author: str | None) -> None:
        query = f"/search?q={word}&limit=50" + (f"&room={room}" if room else "") + (f"&user={author}" if author else "")
        answer = (await self.http(who, "GET", query)).json
        found = [{name: each[name] for name in each if name != "snippet"} for each in answer["results"]]
        expected = self.model.found(who, word, room, author)
        assert all(record in expected for record in found), (who.name, query)
        assert answer["cached"] or len(found) == len(expected), (who.name, query)

    def quiet(self) -> None:
        assert all(listener.silent() for listener in self.listeners)


def answered(act: Callable[[], Any]) -> Any:
    """What an act returns, or the code of its refusal."""
    try:
        return act()
    except RefusedError as refused:
        return refused.code


async def answered_later(act: Any) -> Any:
    try:
        return await act
    except RefusedError as refused:
        return refused.code


def _is_stopped(server: Serving) -> bool:
    """Whether it has stopped as at a restart, with all markers stored."""
    stopped = any(line["event"] == "stopped" for line in server.logs)
    return stopped and server.server.parts.services.markers.waiting == 0


async def play(acts: list[tuple[str, int, int, int]], engine: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings: Any = {
            "token_key": (secret_file(Path(folder)),), "rooms": POLICIES, "presence_grace": 1.0,
            "log": engine.format(folder=folder),
        }  # fmt: skip
        running = Play(Model())
        left = [*acts, *(("look", who, room, who) for who in range(5) for room in range(len(NAMES)))]
        while left:
            async with serving(**settings) as server:
                async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
                    await running.begin(server.address, nursery, stack)
                    while left:
                        name, which, room, amount = left.pop(0)
                        if name != "restart":
                            await getattr(running, name)(PEOPLE[which], NAMES[room % len(NAMES)], amount)
                        elif engine != "memory:":
                            break
                    running.quiet()
                    nursery.cancel_scope.cancel()
                os.kill(os.getpid(), signal.SIGTERM)
                await eventually(partial(_is_stopped, server))


@pytest.mark.parametrize("engine", ["memory:", "sqlite:{folder}/chat.db"])
@given(acts=st.lists(ACT, min_size=15, max_size=60))
@examples(8)
def test_the_chat_is_as_the_model(engine: str, acts: list[tuple[str, int, int, int]]) -> None:
    trio.run(play, acts, engine)
