"""Messages from each node to each: published on one, and awaited on the other over WebSocket, long-poll and cursor.

Owns: a member on each node, the rounds, the measured times. May not: conclude anything from them. Other members of the
room may see everything; the text of each message names the doctor.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from statistics import median

import trio

from chatserver.client import (
    Ack,
    Chat,
    ChatError,
    Complaint,
    Entered,
    Event,
    Feed,
    Message,
    Reconnecting,
    TransportName,
    Unavailable,
    connect,
)
from chatserver.client.wire import ProtocolError
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
#: The transports over which each message is awaited.
WAYS: tuple[TransportName, ...] = ("ws", "poll")


class Observer:
    """A member on one node, over a WebSocket and a long-poll. `run` lasts as long as the connections."""

    def __init__(self, node: Node, token: str, room: str, own_room: str) -> None:
        self.node = node
        self.own_room = own_room  # no other observer joins it
        self.opened = trio.Event()
        self.left = trio.Event()  # ends `run`
        self._token = token
        self._room = room
        self._chat: Chat
        self._missing = len(WAYS) + 1  # rooms that are not entered yet
        self._arrivals: dict[tuple[TransportName, str], float] = {}
        self._awaited: dict[tuple[TransportName, str], trio.Event] = {}

    async def run(self) -> None:
        """Join the rooms and note arrivals, until `left` or until a connection ends."""
        try:
            async with connect(self.node.url, token=self._token, answer_timeout=PATIENCE) as self._chat:
                await self._chat.connected()
                self._chat.join(self.own_room)
                async with connect(
                    self.node.url, token=self._token, cookie=self._chat.cookie, transport="poll"
                ) as polling, trio.open_nursery() as nursery:  # fmt: skip
                    for way, chat in zip(WAYS, (self._chat, polling), strict=True):
                        chat.join(self._room)
                        nursery.start_soon(self._listen, way, chat.events())
                    await self.left.wait()
                    nursery.cancel_scope.cancel()
        except* ChatError as group:
            self.node.fail(Trouble.REFUSED, str(innermost(group)))
        finally:
            self.opened.set()

    async def _listen(self, way: TransportName, events: Feed[Event]) -> None:
        async for event in events:
            match event:
                case Entered():
                    self._missing -= 1
                    if not self._missing:
                        self.opened.set()
                case Complaint():
                    raise ChatError(event.code, event.message)
                case Reconnecting():
                    error = Unavailable("unavailable", f"over {way}: {event.why}")
                    self.node.fail(Trouble.UNREACHABLE, error.message)
                    raise error
                case Message() if (way, event.text) in self._awaited:
                    self._arrivals[way, event.text] = trio.current_time()
                    self._awaited[way, event.text].set()

    def expect(self, text: str) -> None:
        """Note the arrivals of a message with this text."""
        for way in WAYS:
            self._awaited[way, text] = trio.Event()

    async def arrival(self, way: TransportName, text: str) -> float:
        """Wait for an expected message; returns when it came."""
        await self._awaited[way, text].wait()
        return self._arrivals[way, text]

    async def publish(self, text: str) -> Ack:
        """Publish a message. Raises ChatError."""
        return await self._chat.publish(self._room, text)

    async def reads(self, text: str, offset: int) -> bool:
        """Whether this text is at that offset. Reading before the next offset makes the node read its log."""
        page = await self._chat.history(self._room, before=str(offset + 1), limit=1)
        return any(isinstance(record, Message) and record.text == text for record in page.records)

    async def sees(self, other: "Observer") -> bool:
        """Whether the list of members here includes the other observer in its own room."""
        members = (await self._chat.members(other.own_room)).members
        return other._chat.user in members


class Exchange:
    """Messages among nodes on one log. A node in trouble gets no more requests: each would wait for PATIENCE."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._pairs = {
            (sender, receiver): Delivery(sender=sender.node.url, receiver=receiver.node.url)
            for sender in observers
            for receiver in observers
        }
        self.deliveries = list(self._pairs.values())

    async def run(self, *, presence: bool) -> None:
        """Measure the deliveries; with `presence` also who sees whom."""
        for sender in self._observers:
            await self._send_from(sender)
        if presence:
            with trio.move_on_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    for sender, receiver in product(self._well(), repeat=2):
                        delivery = self._pairs[sender, receiver]
                        delivery.present = False
                        nursery.start_soon(self._await_presence, sender, receiver, delivery)

    def _well(self) -> list[Observer]:
        return [each for each in self._observers if each.node.trouble is None]

    async def _send_from(self, sender: Observer) -> None:
        acknowledged: list[float] = []
        took: dict[tuple[Observer, TransportName], list[float]] = {
            (receiver, way): [] for receiver in self._well() for way in WAYS
        }
        for _ in range(ROUNDS):
            if sender.node.trouble is not None or not await self._round(sender, acknowledged, took):
                break
        if not acknowledged:
            return
        sender.node.publish_ms = milliseconds(median(acknowledged))
        for (receiver, way), times in took.items():
            delivery = self._pairs[sender, receiver]
            if len(times) < len(acknowledged):
                continue
            if way == "ws":
                delivery.pushed_ms = milliseconds(median(times))
            else:
                delivery.polled_ms = milliseconds(median(times))

    async def _round(
        self, sender: Observer, acknowledged: list[float], took: dict[tuple[Observer, TransportName], list[float]]
    ) -> bool:
        """Send one message to all nodes; returns whether all received it."""
        text = f"a message of chatserver doctor, {secrets.token_hex(8)}"
        await trio.sleep(HEAD_START)
        began = trio.current_time()
        for receiver in self._well():
            receiver.expect(text)
        ack = await self._publish(sender, text)
        if ack is None:
            return False
        acknowledged.append(trio.current_time() - began)
        with trio.move_on_after(PATIENCE) as waiting:
            async with trio.open_nursery() as nursery:
                for (receiver, way), times in took.items():
                    if receiver.node.trouble is None:
                        nursery.start_soon(self._await_message, receiver, way, text, began, times)
        for receiver in self._well():  # afterwards, because reading makes a node find messages without a hint
            self._pairs[sender, receiver].attempted = True
            with _noting(receiver.node):
                self._pairs[sender, receiver].readable = await receiver.reads(text, ack.offset)
        return not waiting.cancelled_caught

    async def _publish(self, sender: Observer, text: str) -> Ack | None:
        ack: Ack | None = None
        began, clock = trio.current_time(), time.time()
        with _noting(sender.node):
            ack = await sender.publish(text)
            middle = clock + (trio.current_time() - began) / 2
            sender.node.messages_clock_ms = milliseconds(seconds_of(ack.time) - middle)
        return ack

    async def _await_message(
        self, receiver: Observer, way: TransportName, text: str, began: float, times: list[float]
    ) -> None:
        times.append(await receiver.arrival(way, text) - began)

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
    except (ChatError, ProtocolError) as error:
        node.fail(Trouble.REFUSED, str(error))
