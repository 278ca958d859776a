"""Newcomers: healthy clients that connect, do one operation and leave, at a fixed rate.

Owns: the schedule of one kind and its tasks. A newcomer is begun when it is due, however many before it still wait, so
that a server which lets nobody in is met as often as one that does.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
import trio_websocket

from loadgen.timers import now
from loadgen.victims.chat import decoder, encode, join
from loadgen.victims.http import HttpPeer
from loadgen.victims.schedule import Schedule
from loadgen.victims.victim import (
    OperationFailedError,
    Stream,
    describe,
    dial,
    failure_in,
    number_in,
    text_of,
)

if TYPE_CHECKING:
    from loadgen.victims.runner import ProbeRunner

#: Addresses, and rooms, that newcomers take in turns: more than one, so that no cap by address is what they meet.
ADDRESSES: Final = 64

#: How long a newcomer may take to say goodbye; its operation is booked by then.
LEAVE_SECONDS: Final = 1.0

Operation = Callable[["ProbeRunner", Stream, int, Callable[[], None]], Awaitable[None]]


class Newcomers:
    """One kind of newcomer."""

    def __init__(self, runner: "ProbeRunner", kind: str, schedule: Schedule, first_index: int) -> None:
        self.kind = kind
        self.schedule = schedule
        self.pending: dict[int, float] = {}
        self._runner = runner
        self._operation = OPERATIONS[kind]
        self._first_index = first_index  # of the source addresses
        self._issued = 0
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Let one come whenever one is due."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            while not self._runner.stopped:
                await self._runner.clock.sleep_until(self.schedule.due(self._issued))
                if not self._runner.stopped:
                    self.issue(now())

    def issue(self, moment: float) -> None:
        """Begin all that are due by now."""
        while self._nursery is not None and (due := self.schedule.due(self._issued)) < moment:
            self.pending[self._issued] = due
            self._nursery.start_soon(self._come, self._issued, due)
            self._issued += 1

    async def _come(self, number: int, due: float) -> None:
        index = self._first_index + number % ADDRESSES
        try:
            with trio.fail_after(max(due + self._runner.timeout_seconds - now(), 0)):
                stream = await dial(self._runner, index)
                async with stream:
                    await self._operation(self._runner, stream, number, partial(self._book, number, ""))
        except BaseException as error:  # noqa: BLE001  everything but the server's failures is raised again
            self._book(number, describe(failure_in(error)))

    def _book(self, number: int, reason: str) -> None:
        due = self.pending.pop(number, None)
        if due is None:
            return  # how the goodbye went is nobody's operation
        if reason:
            self._runner.recorder.failed(self.kind, 0, due, reason)
        else:
            self._runner.recorder.succeeded(self.kind, 0, due)

    def fail_pending(self, reason: str) -> None:
        """Book the outstanding ones as failed."""
        for number in list(self.pending):
            self._book(number, reason)


async def _get(runner: "ProbeRunner", stream: Stream, number: int, done: Callable[[], None]) -> None:
    del number
    status, _ = await HttpPeer(stream, runner.target.authority).request("GET", runner.endpoint.path)
    if not 200 <= status < 400:
        raise OperationFailedError(f"answered {status}")
    done()


async def _echo(runner: "ProbeRunner", stream: Stream, number: int, done: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        peer = await _upgrade(runner, nursery, stream)
        text = f"newcomer {number}"
        await peer.send_message(text)
        while await peer.get_message() != text:
            pass
        done()
        await _leave(peer, nursery)


async def _chat(runner: "ProbeRunner", stream: Stream, number: int, done: Callable[[], None]) -> None:
    room = f"{runner.tag}-new-{number % ADDRESSES}"
    async with trio.open_nursery() as nursery:
        peer = await _upgrade(runner, nursery, stream)
        await join(peer, room)
        await peer.send_message(encode({"type": "publish", "id": number, "room": room, "text": text_of(number)}))
        while True:
            reply = decoder.decode(await peer.get_message())
            if reply.type == "message" and number_in(reply.text) == number:
                break
            if reply.type == "error":
                raise OperationFailedError(f"error {reply.code}")
        done()
        await _leave(peer, nursery)


async def _upgrade(runner: "ProbeRunner", nursery: trio.Nursery, stream: Stream) -> trio_websocket.WebSocketConnection:
    return await trio_websocket.wrap_client_stream(
        nursery, stream, runner.target.authority, runner.endpoint.websocket_path
    )


async def _leave(peer: trio_websocket.WebSocketConnection, nursery: trio.Nursery) -> None:
    with trio.move_on_after(LEAVE_SECONDS):
        await peer.aclose()
    nursery.cancel_scope.cancel()  # a server that does not answer the goodbye would be waited for


#: What each kind does, by the name that reports use.
OPERATIONS: Final[dict[str, Operation]] = {"new-ws": _chat, "new-get": _get, "new-echo": _echo}
