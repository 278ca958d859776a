"""Messages from each node to each: published on one, and awaited on the other over WebSocket, long-poll and cursor.

Owns: a member on each node, the rounds, the measured times. May not: conclude anything from them. Other members of the
room may see everything; each message says that it is the doctor's.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import trio

from chatserver.client import wire
from chatserver.client.credentials import Credentials
from chatserver.client.http1 import HttpClient, Response
from chatserver.client.requests import Join
from chatserver.client.stream import EndedError, Target
from chatserver.client.websocket import WebSocketConversation, websocket
from chatserver.doctor.facts import Delivery, Node, Trouble, milliseconds
from chatserver.doctor.inquiry import seconds_of
from chatserver.exits import innermost

#: Messages from each node; the median of the times counts.
ROUNDS = 3
#: Seconds for a message to arrive, and for a member to be seen: several times as long as either takes when one hint or
#: one message between processes was lost.
PATIENCE = 5.0
#: Seconds to join the rooms.
ENTRY_PATIENCE = 10.0
#: Seconds to close the connections.
EXIT_PATIENCE = 3.0
#: Seconds by which polls begin before the message is published, and between two requests for a list of members.
HEAD_START, LOOK_EVERY = 0.05, 0.1
#: Attempts to send a message when the server asks to wait. A wait is at most PATIENCE, since a mute lasts minutes.
ATTEMPTS = 3


class RefusedError(Exception):
    """A request that the server refused, with the server's message."""


class Observer:
    """A member on one node, with a WebSocket and requests of the same user. `run` lasts as long as the connection."""

    def __init__(self, node: Node, target: Target, token: str, room: str, own_room: str) -> None:
        credentials = Credentials(token=token)
        self.node = node
        self.own_room = own_room  # no other observer joins it
        self.user = ""
        self.opened = trio.Event()
        self._room = room
        self._target, self._credentials = target, credentials
        self._http, self._held = HttpClient(target, credentials), HttpClient(target, credentials)
        self._joined = 0
        self._left = trio.Event()
        self._arrivals: dict[str, float] = {}
        self._awaited: dict[str, trio.Event] = {}

    async def run(self) -> None:
        """Join the rooms and note arrivals, until `leave` or until the connection ends."""
        try:
            async with websocket(self._target, self._credentials) as socket, trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, socket)
                await self._left.wait()
                nursery.cancel_scope.cancel()
        except* (EndedError, RefusedError, wire.ProtocolError) as group:
            self.node.fail(Trouble.REFUSED, f"WebSocket: {innermost(group)}")
        finally:
            self.opened.set()

    async def leave(self) -> None:
        """End `run` with a proper close."""
        self._left.set()
        await self._http.aclose()
        await self._held.aclose()

    async def _listen(self, socket: WebSocketConversation) -> None:
        for number, room in enumerate((self._room, self.own_room)):
            await socket.send(Join(id=number, room=room))
        while True:
            self._take(await socket.receive())

    def _take(self, frame: wire.Frame | wire.Record | None) -> None:
        match frame:
            case wire.Connected():
                self.user = frame.user.id
            case wire.Joined():
                self._joined += 1
                if self._joined == 2:
                    self.opened.set()
            case wire.Error():
                raise RefusedError(frame.message)
            case wire.Message() if frame.text in self._awaited:
                self._arrivals[frame.text] = trio.current_time()
                self._awaited[frame.text].set()

    def expect(self, text: str) -> None:
        """Note the arrival of a message with this text."""
        self._awaited[text] = trio.Event()

    async def arrival(self, text: str) -> float:
        """Wait for an expected message; returns when it came."""
        await self._awaited[text].wait()
        return self._arrivals[text]

    async def publish(self, text: str) -> wire.Ack:
        """Publish a message. Raises RefusedError."""
        fields = {"text": text, "key": text}
        for attempt in range(ATTEMPTS):
            response = await self._http.request("POST", f"/rooms/{self._room}/messages", fields)
            if response.retry_after is None or response.retry_after > PATIENCE or attempt == ATTEMPTS - 1:
                break
            await trio.sleep(response.retry_after)
        return _checked(response, 201).decode(wire.Ack)

    async def latest(self) -> str:
        """The cursor at the end of the room."""
        response = await self._http.request("GET", f"/rooms/{self._room}/messages?limit=1")
        return _checked(response).decode(wire.History).cursor

    async def poll(self, text: str, cursor: str) -> float:
        """Hold polls from a cursor until this text arrives; returns when it did."""
        while True:
            path = f"/rooms/{self._room}/messages?after={cursor}&wait={PATIENCE:g}"
            page = _checked(await self._held.request("GET", path, wait=PATIENCE)).decode(wire.History)
            if _has(page, text):
                return trio.current_time()
            cursor = page.cursor

    async def reads(self, text: str, offset: int) -> bool:
        """Whether this text is at that offset. Reading before the next offset makes the node read its log."""
        response = await self._http.request("GET", f"/rooms/{self._room}/messages?before={offset + 1}&limit=1")
        return _has(_checked(response).decode(wire.History), text)

    async def sees(self, other: "Observer") -> bool:
        """Whether the list of members here includes the other observer in its own room."""
        response = await self._http.request("GET", f"/rooms/{other.own_room}/members")
        members = _checked(response).decode(wire.Members).members
        return other.user in [member.id for member in members]


class Exchange:
    """Messages among nodes on one log."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._pairs = {
            (sender, receiver): Delivery(sender=sender.node.url, receiver=receiver.node.url)
            for sender in observers
            for receiver in observers
        }
        self._pushed: dict[tuple[Observer, Observer], list[float]] = {pair: [] for pair in self._pairs}  # s
        self.deliveries = list(self._pairs.values())

    async def run(self, *, presence: bool) -> None:
        """Measure the deliveries; with `presence` also who sees whom."""
        for sender in self._observers:
            await self._send_from(sender)
        if presence:
            with trio.move_on_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    for (sender, receiver), delivery in self._pairs.items():
                        delivery.present = False
                        nursery.start_soon(self._await_presence, sender, receiver, delivery)

    async def _send_from(self, sender: Observer) -> None:
        acknowledged: list[float] = []
        for number in range(ROUNDS):
            if not await self._round(sender, acknowledged, polled=not number):
                break
        if acknowledged:
            sender.node.publish_ms = milliseconds(median(acknowledged))
        for receiver in self._observers:
            times = self._pushed[sender, receiver]
            if len(times) == len(acknowledged) > 0:
                self._pairs[sender, receiver].pushed_ms = milliseconds(median(times))

    async def _round(self, sender: Observer, acknowledged: list[float], *, polled: bool) -> bool:
        """Send one message to all nodes; returns whether all received it."""
        text = f"a message of chatserver doctor, {secrets.token_hex(8)}"
        cursors: dict[Observer, str] = {}
        for receiver in self._observers:
            receiver.expect(text)
            if polled:
                with _noting(receiver.node):
                    cursors[receiver] = await receiver.latest()
        with trio.CancelScope() as waiting:
            async with trio.open_nursery() as nursery:
                began = trio.current_time() + HEAD_START
                for receiver in self._observers:
                    nursery.start_soon(self._await_push, sender, receiver, text, began)
                for receiver, cursor in cursors.items():
                    nursery.start_soon(self._await_poll, sender, receiver, text, cursor, began)
                await trio.sleep_until(began)
                ack = await self._publish(sender, text)
                if ack is None:
                    waiting.cancel()
                else:
                    acknowledged.append(trio.current_time() - began)
                    waiting.deadline = trio.current_time() + PATIENCE
        if ack is not None:
            for receiver in cursors:  # afterwards, because reading makes a node find messages without a hint
                self._pairs[sender, receiver].attempted = True
                with _noting(receiver.node):
                    self._pairs[sender, receiver].readable = await receiver.reads(text, ack.offset)
        return not waiting.cancelled_caught

    async def _publish(self, sender: Observer, text: str) -> wire.Ack | None:
        ack: wire.Ack | None = None
        began, clock = trio.current_time(), time.time()
        with _noting(sender.node):
            ack = await sender.publish(text)
            middle = clock + (trio.current_time() - began) / 2
            sender.node.messages_clock_ms = milliseconds(seconds_of(ack.time) - middle)
        return ack

    async def _await_push(self, sender: Observer, receiver: Observer, text: str, began: float) -> None:
        self._pushed[sender, receiver].append(await receiver.arrival(text) - began)

    async def _await_poll(self, sender: Observer, receiver: Observer, text: str, cursor: str, began: float) -> None:
        with _noting(receiver.node):
            self._pairs[sender, receiver].polled_ms = milliseconds(await receiver.poll(text, cursor) - began)

    async def _await_presence(self, sender: Observer, receiver: Observer, delivery: Delivery) -> None:
        with _noting(receiver.node):
            while not await receiver.sees(sender):  # noqa: ASYNC110  the list is on the other side of a socket
                await trio.sleep(LOOK_EVERY)
            delivery.present = True


@contextmanager
def _noting(node: Node) -> Iterator[None]:
    """Record the error that ends the block as the node's trouble."""
    try:
        yield
    except (RefusedError, EndedError, wire.ProtocolError) as error:
        node.fail(Trouble.REFUSED, str(error))


def _checked(response: Response, status: int = 200) -> Response:
    if response.status != status:
        raise RefusedError(response.error[1])
    return response


def _has(page: wire.History, text: str) -> bool:
    return any(isinstance(record, wire.Message) and record.text == text for record in page.records)
