"""chat.v1, the chat contract: victims by WebSocket, long-poll and event stream, and newcomers.

Owns: the part of the contract that healthy clients need.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final
from urllib.parse import quote

import msgspec
import trio

from loadgen.clients.client import Needs
from loadgen.net import wire
from loadgen.net.answers import RETRY, UNANSWERED
from loadgen.net.line import Exchange
from loadgen.net.timers import NEVER
from loadgen.net.websocket import WebSocket
from loadgen.personas._websocket import JOIN_ID, Envelope, Message, Page, pages
from loadgen.protocols.changes import RECORDS, Changes
from loadgen.protocols.http import HttpPeer, http_peer
from loadgen.protocols.ws_echo import ByWebSocket
from loadgen.victims.probe import CONNECT_TIMEOUT_SECONDS, Context, Schedule
from loadgen.victims.victim import (
    OperationFailedError,
    PlannedEndError,
    Protocol,
    Victim,
    number_in,
    require_room,
)

#: The wait that a held poll asks for; in practice the victim's next message ends it long before.
POLL_WAIT_SECONDS: Final = 25

#: One in so many operations by WebSocket changes the message before it: edits it, deletes it or reacts to it, in turn.
CHANGES_EVERY: Final = 10
_NOTHING: Final = (-1, 0)  # in place of an operation and an offset

_EVENT_DATA: Final = b"data:"
_EVENT_ID: Final = b"id:"


class _Reply(Envelope, kw_only=True):
    messages: tuple[Message, ...] = ()


_messages: Final = msgspec.json.Decoder(Message)
_replies: Final = msgspec.json.Decoder(_Reply)


async def _say(peer: WebSocket, **message: object) -> None:
    await peer.send(msgspec.json.encode(message).decode())


async def get_page(peer: HttpPeer, path: str) -> Page:
    status, body = await peer.request("GET", path)
    if status != 200:
        raise OperationFailedError(f"answered {status}")
    return pages.decode(body)


class WebSocketVictim(ByWebSocket):
    """Publishes in its own room and waits until the message is back and acknowledged.

    Now and then it changes its last message instead. A server that refuses the first edit, deletion or reaction does
    not offer that.
    """

    name = "ws"
    words = "WebSocket round trip"
    keeps_messages = True

    def __init__(self, context: Context, index: int, schedule: Schedule) -> None:
        super().__init__(context, index, schedule)
        self.changes = Changes()
        self._last = _NOTHING  # its last message on this connection, and the offset

    async def _enter(self, peer: WebSocket) -> None:
        self._last = _NOTHING  # a guest that comes back is another, who may not edit it
        await _say(peer, type="join", id=JOIN_ID, room=self.room)
        while (reply := _replies.decode(await peer.message())).type != "joined":
            if reply.type == "error":
                raise OperationFailedError(f"error {reply.code}")
        records = [(self._number_in(each), each.offset) for each in reply.messages]
        self.recall((self.text(number), offset) for number, offset in records if number is not None)

    def _number_in(self, record: Message) -> int | None:
        """Return the operation of a record; a message with the text of a later edit does not tell of that."""
        if record.type in RECORDS:
            return self.changes.operation(record.type, record.target)
        number = number_in(record.text, self.room, self.context.tag)
        return None if number in self.changes.kinds else number

    async def _say(self, peer: WebSocket, number: int) -> None:
        self.sent_since_reply += 1
        self.changes.kinds.pop(number, None)
        last, offset = self._last
        change: dict[str, object] = {}
        # One that is changed before it has come back may come back as it is then, and each is changed once.
        if not (number + 1) % CHANGES_EVERY and last in self._heard:
            change = self.changes.begin(number, last, offset, self.text(number), number // CHANGES_EVERY)
        if not change:
            await _say(peer, type="publish", id=number, room=self.room, text=self.text(number))
            return
        self._last = _NOTHING
        await _say(peer, room=self.room, **change)

    async def _listen(self, peer: WebSocket) -> None:
        while True:
            reply = _replies.decode(await peer.message())
            self.sent_since_reply = 0
            if reply.type == "message":
                self.heard(reply.text, reply.offset, reply.room)
            elif reply.type in RECORDS:
                number = self.changes.operation(reply.type, reply.target)
                if number is None or (reply.type == "edit" and reply.text != self.text(number)):
                    raise OperationFailedError("a change of another message")
                self.heard(self.text(number), reply.offset, reply.room)
            elif reply.type == "ack" and isinstance(reply.id, int):
                require_room(reply.room, self.room)
                if reply.id in self.acknowledged or not self.has_said(reply.id):
                    raise OperationFailedError("acknowledged twice, or what was never said")
                self.acknowledge(reply.id, reply.offset)
                if reply.id in self.changes.kinds:
                    self.changes.accept(reply.id)
                elif reply.offset:
                    self._last = reply.id, reply.offset
            elif reply.type == "error" and isinstance(reply.id, int):
                if self.changes.refuse(reply.id):
                    self.said_again.add(reply.id)
                    await self._say(peer, reply.id)
                else:
                    self.book(reply.id, f"error {reply.code}")

    def why_pending(self, number: int) -> str:
        """Name a change that the server does not know and passes over, instead of refusing it."""
        why, kind = super().why_pending(number), self.changes.kinds.get(number)
        if why == UNANSWERED and max(self.acknowledged, default=-1) > number and self.changes.refuse(number):
            return f"no answer to the first {kind}, but to what was sent later"
        return why


class _Poster(Victim):
    """Publishes by POST on one connection; a subclass receives on another."""

    keeps_messages = True

    def __init__(self, context: Context, index: int, schedule: Schedule) -> None:
        super().__init__(context, index, schedule)
        self.posting = trio.Lock()  # held while a request is under way

    async def live(self) -> None:
        """Connect twice; one task sends, one receives, and neither waits for the other."""
        peer = partial(http_peer, self.context, self.index)
        async with peer() as speaking, peer() as listening, trio.open_nursery() as nursery:
            await nursery.start(self._listen, listening)
            await self.speak(partial(self._post, speaking))
            nursery.cancel_scope.cancel()

    async def _post(self, peer: HttpPeer, number: int) -> None:
        path, fields = f"/rooms/{self.room}/messages", ("Content-Type: text/plain",)
        async with self.posting:
            status, body = await peer.asked(partial(peer.request, "POST", path, self.text(number).encode(), fields))
            if status != 201:
                self.book(number, f"answered {status}")
                return
            receipt = _messages.decode(body)
            require_room(receipt.room, self.room)
            self.acknowledge(number, receipt.offset)

    async def _listen(self, peer: HttpPeer, *, task_status: trio.TaskStatus[None]) -> None:
        raise NotImplementedError


class PollVictim(_Poster):
    """Waits for its own messages in a held poll."""

    name = "poll"
    words = "long-poll round trip"

    async def _listen(self, peer: HttpPeer, *, task_status: trio.TaskStatus[None]) -> None:
        path = f"/rooms/{self.room}/messages"
        with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
            cursor = (await get_page(peer, f"{path}?limit=1")).cursor
        task_status.started()
        while True:
            # the operations have their own timeout; this one only ends a poll that the server has forgotten
            with trio.fail_after(POLL_WAIT_SECONDS + CONNECT_TIMEOUT_SECONDS):
                query = f"after={quote(cursor, safe='')}&wait={POLL_WAIT_SECONDS}"
                page = await peer.asked(partial(get_page, peer, f"{path}?{query}"), self._planned_ends)
            cursor = page.cursor
            for message in page.messages:
                self.heard(message.text, message.offset, message.room)


async def _lines(exchange: Exchange) -> AsyncGenerator[list[bytes], None]:
    """Yield the complete lines that are not blank, whenever something has come, if only a part of one."""
    rest = b""
    async with aclosing(exchange.body()) as parts:
        async for part in parts:
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > wire.MAX_LINE_BYTES:
                raise OperationFailedError(f"a line of more than {wire.MAX_LINE_BYTES:,} bytes")
            yield [line for line in lines if line.strip()]


class StreamVictim(_Poster):
    """Waits for its own messages on an event stream, and as browsers do, resumes it after the last event."""

    name = "sse"
    words = "event stream round trip"
    repeats = True

    _last_id = ""

    async def _listen(self, peer: HttpPeer, *, task_status: trio.TaskStatus[None]) -> None:
        has_begun, is_told = False, False
        with trio.fail_after(CONNECT_TIMEOUT_SECONDS) as connecting:
            fields = [f"Last-Event-ID: {self._last_id}"] if self._last_id else []
            exchange = await peer.stream(f"/rooms/{self.room}/events", fields)
            async with aclosing(_lines(exchange)) as came:
                async for lines in came:
                    if connecting.deadline != NEVER:  # the first bytes, which servers send at once (`retry:`, say)
                        connecting.deadline = NEVER
                        task_status.started()
                    for line in lines:
                        has_begun, is_told = True, has_begun and line.startswith(RETRY)
                        if line.startswith(_EVENT_DATA):
                            message = _messages.decode(line[len(_EVENT_DATA) :])
                            self.heard(message.text, message.offset, message.room)
                        elif line.startswith(_EVENT_ID):
                            self._last_id = line[len(_EVENT_ID) :].strip().decode("ascii", "ignore")
        if exchange.ended_by_close and not is_told:
            raise OperationFailedError("the event stream ended")
        # A request under way is answered first, within the limit of `speak`; the next stream has its message.
        async with self.posting:
            raise PlannedEndError("the event stream ended")


PROTOCOL: Final = Protocol(
    name="chat",
    victims=(WebSocketVictim, PollVictim, StreamVictim),
    speaker="chat",
    idle="idle",
    proves=frozenset(Needs),
    # the users of a chat: most come by WebSocket, some by the fallbacks for networks where that does not work
    mix={"ws": 60.0, "poll": 15.0, "sse": 15.0, "get": 10.0},
)
