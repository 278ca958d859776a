"""Faults planted into a real server: a method of it raises once, for one connection or one room.

Owns: the scene (a server, a victim, what the server holds) and the plant. May not: know what a handler does.

    scene.plant(handler, "received")        the next call for the victim's connection raises instead
    scene.plant(handler, "released", after=True)      it raises after its work
"""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.api.answers import Queue
from chatserver.api.request import Request
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.room import Room
from chatserver.log.interface import Draft, Record
from chatserver.net.connection import Connection
from tests.support.certificates import certificate
from tests.support.parked import descriptors
from tests.support.serving import Serving, eventually, neighbour, serving

#: The victim's address, and a room in which only the victim is.
VICTIM, ROOM = "127.0.3.1", "victims"


#: Seconds of a limit that a victim must not run into; far more than any case takes.
PATIENT = 60.0


class PlantedError(RuntimeError):
    """A planted bug."""


class Scene:
    """A server, and the connection in which a fault is planted."""

    def __init__(self, server: Serving, patch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.parts = server.server.parts
        self.patch = patch
        self.raised = 0
        self.go_on = trio.Event()  # for what a victim has to wait for

    @property
    def victims(self) -> list[Connection]:
        """Connections from the victim's address."""
        return [each for each in self.parts.connections.table if each is not None and each.address == VICTIM]

    @property
    def victim(self) -> Connection:
        [connection] = self.victims
        return connection

    def concerns_the_victim(self, *arguments: object) -> bool:
        """Whether all connections and rooms in a call's arguments are the victim's."""
        named = [name for each in arguments for name in _names(each)]
        return all(name == VICTIM or name.startswith(ROOM) for name in named)

    def plant(self, owner: Any, name: str, *, after: bool = False) -> None:
        """Let the next call of `owner.name` for the victim raise, in place of its work or after it."""
        original = getattr(owner, name)
        self.patch.setattr(owner, name, self._planted(original, after=after))

    def _planted(self, original: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        is_armed = True

        def goes_off(*arguments: Any) -> bool:
            nonlocal is_armed
            if not is_armed or not self.concerns_the_victim(*arguments):
                return False
            is_armed = False
            self.raised += 1
            return True

        def planted(*arguments: Any, **options: Any) -> Any:
            if not goes_off(*arguments):
                return original(*arguments, **options)
            if after:
                original(*arguments, **options)
            raise PlantedError

        async def planted_in_task(*arguments: Any, **options: Any) -> Any:
            if not goes_off(*arguments):
                return await original(*arguments, **options)
            raise PlantedError

        return planted_in_task if inspect.iscoroutinefunction(original) else planted

    async def went_off(self) -> None:
        """Wait until it has raised."""

        await eventually(lambda: self.raised > 0)

    async def until_state(self, name: str) -> None:
        """Wait until the victim is in a state."""

        await eventually(lambda: [each.state.name for each in self.victims] == [name])

    def holdings(self) -> dict[str, int]:
        """Everything of the server that a connection can hold and must release."""
        parts = self.parts
        hub = parts.hub.statistics()
        tasks = parts.exchanges._tasks[Queue.READ].statistics()
        return {
            "descriptors": descriptors(),
            "connections": parts.connections.held,
            "networks": parts.admission.networks,
            "input": parts.input_budget.used,
            "inputs": len(parts.input_budget),
            "members": hub["members"],
            "waiters": hub["waiters"],
            "paused": sum(len(room.paused or ()) for room in parts.hub.rooms.values()),
            "half open": len(parts.handshakes.half_open) if parts.handshakes is not None else 0,
            "tasks": tasks["running"] + tasks["waiting"],
        }

    @property
    def fault_lines(self) -> list[Any]:
        """The log lines of faults."""
        return [line for line in self.server.logs if line["event"].startswith("fault")]


def _names(argument: object) -> Iterator[str]:
    """The addresses and rooms that an argument is about."""
    if isinstance(argument, str):
        yield argument
    elif isinstance(argument, Room):
        yield argument.name
    elif isinstance(argument, tuple | list):
        for each in argument:
            yield from _names(each)
    elif isinstance(argument, Connection | Request):
        yield argument.address
    elif isinstance(argument, Draft | Record | Member):
        yield from _names(argument.room)
    elif isinstance(argument, PollWaiter):
        yield from _names(argument.connection)


@asynccontextmanager
async def scene_of(tmp_path: Path, *, tls: bool = False, faults: int = 1, **settings: Any) -> AsyncIterator[Scene]:
    """A server for so many faults with a healthy neighbour; after the block the victim must hold nothing."""
    if tls:
        settings["tls_cert"], settings["tls_key"] = certificate(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        async with serving(faults=faults, **{"serving_deadline": PATIENT, **settings}) as server:
            scene = Scene(server, patch)
            before = scene.holdings()
            async with neighbour(server):
                yield scene
            after: dict[str, int] = {}

            async def given_back() -> bool:
                nonlocal after
                after = scene.holdings()
                return after == before

            with trio.move_on_after(10.0):
                await eventually(given_back)
            assert after == before
            assert scene.raised == scene.parts.connections.faults.count == faults
            assert [line["reason"] for line in scene.fault_lines] == ["PlantedError"] * faults, scene.fault_lines
