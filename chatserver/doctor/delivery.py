"""Messages from each node to each: published on one, and awaited on the other over a WebSocket and by cursor.

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
    Message,
    Postponed,
    RateLimited,
    Reconnecting,
    Rejected,
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
#: Seconds between two requests for a list of members.
LOOK_EVERY = 0.1


class Observer:
    """A member on one node. `run` lasts as long as its connection."""

    def __init__(self, node: Node, token: str, room: str, own_room: str) -> None:
        self.node = node
        self.own_room = own_room  # no other observer joins it
        self.sent_at = 0.0  # when the latest message was sent, or will be sent again
        self.opened = trio.Event()
        self.left = trio.Event()  # ends `run`
        self._token = token
        self._room = room
        self._chat: Chat
        self._missing = [room, own_room]  # rooms that are not entered yet, in this order
        self._awaited: dict[str, trio.Event] = {}  # by text, set when it has come

    async def run(self) -> None:
        """Join the rooms and note arrivals, until `left` or until the connection ends."""
        try:
            async with connect(self.node.url, token=self._token, answer_timeout=PATIENCE) as self._chat:
                await self._chat.connected()
                for room in self._missing:
                    self._chat.join(room)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen)
                    await self.left.wait()
                    nursery.cancel_scope.cancel()
        except* ChatError as group:
            self.node.fail(_trouble_of(innermost(group)), str(innermost(group)))
        finally:
            self.opened.set()

    async def _listen(self) -> None:
        async for event in self._chat.events():
            match event:
                case Entered():
                    self._enter(event.room)
                case Complaint() if event.room == self.own_room:  # a limit of one room, or a token for one
                    self.node.only_room = event.message
                    self._enter(event.room)
                case Complaint():
                    raise ChatError(event.code, event.message)
                case Reconnecting():
                    self.node.fail(Trouble.UNREACHABLE, event.why)
                    raise Unavailable("unavailable", event.why)
                case Postponed():
                    self.sent_at = trio.current_time() + event.delay
                case Message() if event.text in self._awaited:
                    self._awaited[event.text].set()

    def _enter(self, room: str) -> None:
        self._missing = [each for each in self._missing if each != room]
        if not self._missing:
            self.opened.set()

    def expect(self, text: str) -> trio.Event:
        """An event for the arrival of a message with this text."""
        return self._awaited.setdefault(text, trio.Event())

    async def publish(self, text: str) -> Ack:
        """Publish a message. Raises ChatError."""
        self.sent_at = trio.current_time()
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
                        if sender.node.only_room:
                            continue
                        delivery = self._pairs[sender, receiver]
                        delivery.present = False
                        nursery.start_soon(self._await_presence, sender, receiver, delivery)

    def _well(self) -> list[Observer]:
        return [each for each in self._observers if each.node.trouble is None]

    async def _send_from(self, sender: Observer) -> None:
        acknowledged: list[float] = []
        took: dict[Observer, list[float]] = {receiver: [] for receiver in self._well()}
        for _ in range(ROUNDS):
            if sender.node.trouble is not None or not await self._round(sender, acknowledged, took):
                break
        if not acknowledged:
            return
        sender.node.publish_ms = milliseconds(median(acknowledged))
        for receiver, times in took.items():
            if len(times) == len(acknowledged):
                self._pairs[sender, receiver].pushed_ms = milliseconds(median(times))

    async def _round(self, sender: Observer, acknowledged: list[float], took: dict[Observer, list[float]]) -> bool:
        """Send one message to all nodes; returns whether all received it."""
        text = f"a message of chatserver doctor, {secrets.token_hex(8)}"
        arrivals = {receiver: receiver.expect(text) for receiver in self._well()}
        ack = await self._publish(sender, text, is_first=not acknowledged)
        if ack is None:
            return False
        acknowledged.append(trio.current_time() - sender.sent_at)
        with trio.move_on_after(PATIENCE) as waiting:
            async with trio.open_nursery() as nursery:
                for receiver, arrived in arrivals.items():
                    if receiver.node.trouble is None:
                        nursery.start_soon(_await_arrival, arrived, sender.sent_at, took[receiver])
        for receiver in self._well():  # afterwards, because reading makes a node find messages without a hint
            self._pairs[sender, receiver].attempted = True
            with _noting(receiver.node):
                self._pairs[sender, receiver].readable = await receiver.reads(text, ack.offset)
        return not waiting.cancelled_caught

    async def _publish(self, sender: Observer, text: str, *, is_first: bool) -> Ack | None:
        ack: Ack | None = None
        with _noting(sender.node):
            try:
                ack = await sender.publish(text)
            except RateLimited:  # after the first message the rate says nothing about the node
                if is_first:
                    raise
            else:
                middle = time.time() - (trio.current_time() - sender.sent_at) / 2
                sender.node.messages_clock_ms = milliseconds(seconds_of(ack.time) - middle)
        return ack

    async def _await_presence(self, sender: Observer, receiver: Observer, delivery: Delivery) -> None:
        with _noting(receiver.node):
            while not await receiver.sees(sender):  # noqa: ASYNC110  the list is on the other side of a socket
                await trio.sleep(LOOK_EVERY)
            delivery.present = True


async def _await_arrival(arrived: trio.Event, began: float, times: list[float]) -> None:
    await arrived.wait()
    times.append(trio.current_time() - began)


@contextmanager
def _noting(node: Node) -> Iterator[None]:
    """Record the error that ends the block as the node's trouble."""
    try:
        yield
    except (ChatError, ProtocolError) as error:
        node.fail(_trouble_of(error), str(error))


def _trouble_of(error: BaseException) -> Trouble:
    if isinstance(error, RateLimited):
        return Trouble.LIMITED
    if isinstance(error, Rejected):  # the same user was let in by plain HTTP
        return Trouble.NO_WEBSOCKET
    return Trouble.UNAVAILABLE if isinstance(error, Unavailable) else Trouble.REFUSED
