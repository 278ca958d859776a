"""Publishers that repeat an act with its key until it is acknowledged, and listeners that resume from their cursors.

Owns: what a good client does when it is cut off: it reconnects soon, to any node. May not: judge what it is told; the
ledger does. An answer that a good client should never get raises `Violation`.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import trio

from tests.soak.ledger import DELETE, EDIT, MESSAGE, REACTION, Act, Ledger, Position, Violation
from tests.support.peers import Address, Chatter, ClosedError, EndOfStreamError, RefusedError, ask, chatter
from tests.support.transports import JoinRefusedError, subscribe

#: Seconds without an answer, and without a record, after which a client goes elsewhere.
ANSWER_PATIENCE, SILENCE = 8.0, 5.0
#: The longest pause between two acts of a publisher, and before a client comes back.
ACT_PAUSE, RETRY_PAUSE = 0.08, 0.2
#: How often each kind of act is chosen; one act in how many is asked for its acknowledgement again; how many messages
#: are sent over HTTP.
KINDS = (MESSAGE,) * 12 + (EDIT,) * 2 + (DELETE,) + (REACTION,) * 2
REPEATS, SHARE_OVER_HTTP = 0.05, 0.3
#: Messages of its own that a publisher may still change.
RECENT = 8
EMOJI = "\N{THUMBS UP SIGN}"
#: Closes and refusals that mean "come back": going away, restart, try again later, a log that was too slow; and a
#: client of this test that was too slow, which is no fault on a busy machine.
GOOD_CLOSES, GOOD_REFUSALS = (1000, 1001, 1012, 1013, 4000, 4001), (503, 408)
#: The same of an `error` over WebSocket.
GOOD_CODES = ("unavailable", "draining")
LOSSES = (EndOfStreamError, OSError, trio.BrokenResourceError, trio.TooSlowError)


class Client:
    """One connection at a time, each to another node than the last one; it can be cut."""

    def __init__(self, name: str, nodes: Sequence[Address], dice: random.Random) -> None:
        self.name = name
        self.connections = dice.randrange(len(nodes))
        self._nodes = nodes
        self._dice = dice
        self._link = trio.CancelScope()

    @property
    def _node(self) -> Address:
        return self._nodes[self.connections % len(self._nodes)]

    def cut(self) -> None:
        """Lose the present connection."""
        self._link.cancel()

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Connect to the next node; the block ends without an error if the connection ends in an allowed way."""
        self.connections += 1
        with trio.CancelScope() as self._link:
            self._expect_within(ANSWER_PATIENCE)
            try:
                yield
            except LOSSES:
                pass
            except ClosedError as closed:
                if closed.code not in GOOD_CLOSES:
                    raise Violation(f"{self.name} was closed with {closed}") from closed
            except RefusedError as refused:
                self._check_refusal(refused.answer.status)
            except JoinRefusedError as refused:
                if refused.code not in GOOD_CODES:
                    raise Violation(f"{self.name} may not join: {refused}") from refused

    def _expect_within(self, seconds: float) -> None:
        """Lose the connection after so long, unless this is called again."""
        self._link.deadline = trio.current_time() + seconds

    def _check_refusal(self, status: int) -> None:
        if status not in GOOD_REFUSALS:
            raise Violation(f"{self.name} was refused with {status}")

    async def _pause(self, most: float) -> None:
        await trio.sleep(self._dice.uniform(0.0, most))


class Publisher(Client):
    """Does one act after the other in one room."""

    def __init__(self, name: str, room: str, ledger: Ledger, nodes: Sequence[Address], dice: random.Random) -> None:
        super().__init__(name, nodes, dice)
        self.done = 0
        self.slowest = 0.0  # s from the first attempt to the acknowledgement
        self.stopping = False
        self._room = room
        self._ledger = ledger
        self._session = self._user = ""
        self._act: Act | None = None
        self._since = 0.0
        self._count = 0
        self._mine: dict[int, Act] = {}  # recent messages by offset
        self._reacted: set[int] = set()
        self._last: Act | None = None
        self._again = False

    async def run(self) -> None:
        """Act until `stopping` is set and the last act is acknowledged."""
        while not self.is_over:
            with self._connection():
                await self._speak()
            if not self.is_over:
                await self._pause(RETRY_PAUSE)

    @property
    def is_over(self) -> bool:
        return self.stopping and self._act is None

    async def _speak(self) -> None:
        headers = {"Cookie": f"chat_session={self._session}"} if self._session else {}
        async with chatter(self._node, headers=headers) as friend:
            self._greeted(friend.hello)
            while not self.is_over:
                self._expect_within(ANSWER_PATIENCE)
                await self._act_once(friend)

    def _greeted(self, hello: Any) -> None:
        user = hello["user"]["id"]
        if self._user not in ("", user):
            raise Violation(f"{self.name} was {self._user} and came back as {user}")
        self._session, self._user = hello["session"], user

    async def _act_once(self, friend: Chatter) -> None:
        if self._act is None:
            self._again = self._last is not None and self._dice.random() < REPEATS
            self._act = self._last if self._again else self._think()
            self._since = trio.current_time()
        assert self._act is not None
        act = self._act
        over_http = act.kind == MESSAGE and self._dice.random() < SHARE_OVER_HTTP
        answer = await (self._post(act) if over_http else self._say(friend, act))
        if answer is None:
            await self._pause(RETRY_PAUSE)
            return
        self._act = None
        self.slowest = max(self.slowest, trio.current_time() - self._since)
        self.done += 1
        if answer.get("code") != "gone":
            self._ledger.acknowledge(act, self._user, answer)
            if not self._again:
                self._note(act, answer["offset"])
        await self._pause(ACT_PAUSE)

    async def _say(self, friend: Chatter, act: Act) -> Any:
        """The acknowledgement; None if the act must be repeated."""
        fields: dict[str, Any] = {"room": act.room, "key": act.name}
        match act.kind:
            case "message":
                answer = await friend.ask("publish", text=act.text, **fields)
            case "edit":
                answer = await friend.ask("edit", offset=act.target, text=act.text, **fields)
            case "delete":
                answer = await friend.ask("delete", offset=act.target, **fields)
            case _:
                answer = await friend.ask("react", offset=act.target, emoji=act.emoji, on=True, **fields)
        if answer["type"] == "ack":
            return answer
        return self._refused(act, answer)

    async def _post(self, act: Act) -> Any:
        node, path = self._dice.choice(self._nodes), f"/rooms/{quote(act.room)}/messages"
        headers = {"Cookie": f"chat_session={self._session}"}
        answer = await ask(node, "POST", path, {"text": act.text, "key": act.name}, headers=headers)
        if answer.status == 201:
            return answer.json
        self._check_refusal(answer.status)
        return None

    def _refused(self, act: Act, answer: Any) -> Any:
        code = answer["code"]
        if code in GOOD_CODES:
            return None
        if code == "gone" and act.kind == REACTION and act.target not in self._mine:
            return answer  # another user has deleted it meanwhile
        raise Violation(f"{self.name} was refused {act}: {answer}")

    def _think(self) -> Act:
        self._count += 1
        name = f"{self.name}-{self._count}"
        kind = self._dice.choice(KINDS)
        if kind == MESSAGE or not self._mine:
            return Act(MESSAGE, self._room, name)
        target = self._dice.choice(list(self._mine))
        if kind == REACTION:
            room = self._ledger.room(self._room)
            others = range(max(1, room.top - 3 * RECENT), room.top + 1)
            target = next((each for each in self._dice.sample(others, len(others)) if self._may_react(each)), 0)
            return Act(REACTION, self._room, name, target, emoji=EMOJI) if target else Act(MESSAGE, self._room, name)
        return Act(kind, self._room, name, target, self._mine[target].name)

    def _may_react(self, offset: int) -> bool:
        act = self._ledger.room(self._room).acts.get(offset)
        is_mine_no_more = act is not None and act.name.startswith(f"{self.name}-") and offset not in self._mine
        return act is not None and act.kind == MESSAGE and offset not in self._reacted and not is_mine_no_more

    def _note(self, act: Act, offset: int) -> None:
        self._last = act
        if act.kind == MESSAGE:
            self._mine[offset] = act
            while len(self._mine) > RECENT:
                del self._mine[next(iter(self._mine))]
        elif act.kind == DELETE:
            self._mine.pop(act.target, None)
        elif act.kind == REACTION:
            self._reacted.add(act.target)


class Listener(Client):
    """Follows one room over one transport, always as the same guest."""

    def __init__(
        self, name: str, transport: str, room: str, ledger: Ledger, nodes: Sequence[Address], dice: random.Random
    ) -> None:  # fmt: skip
        super().__init__(name, nodes, dice)
        self._cookie = ""
        self.position = Position(ledger, room, name)
        self._transport = transport

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            with self._connection():
                await self._follow()
            await self._pause(RETRY_PAUSE)

    async def _follow(self) -> None:
        if not self._cookie:
            answer = await ask(self._node, "POST", "/session")
            if "set-cookie" not in answer.headers:
                raise RefusedError(answer)
            self._cookie = answer.headers["set-cookie"].partition(";")[0]
        position, headers = self.position, {"Cookie": self._cookie}
        room, cursor = position.room.name, position.cursor
        async with subscribe(self._transport, self._node, room, cursor, headers=headers) as following:
            while True:
                self._expect_within(SILENCE)
                records = await following.batch()
                if following.told_of_loss:
                    following.told_of_loss = False
                    position.told_of_loss(following.cursor)
                for record in records:
                    position.take(record)
