"""The chat beside a model of it: random requests of seven people, over every transport, in memory and in a file.

Each answer, each record that is pushed to each listener, and everything that somebody can read is compared with
`chat_model.py`. HYPOTHESIS_EXAMPLES=1000 searches for longer.
"""

import os
import signal
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from chatserver.log import connections, database, database_index, groups
from chatserver.log.interface import Log
from chatserver.log.memory import MemoryLog
from chatserver.log.sqlite import SqliteLog
from chatserver.settings.rooms import Audience, RoomPolicy
from tests.api.chat_model import EDIT_WINDOW, PEOPLE, ROOMS, SLOW, WORDS
from tests.api.chat_player import NAMES, WRITES, Player
from tests.support import peers
from tests.support import serving as serving_module
from tests.support.examples import new_examples
from tests.support.serving import Serving, eventually, serving
from tests.support.tokens import secret_file

POLICIES = tuple(
    (name, RoomPolicy(list(Audience)[read], list(Audience)[write], listed, SLOW if name == "slow" else 0.0))
    for name, (read, write, listed) in ROOMS.items()
)
ACTS = (
    "publish publish publish publish publish reply edit edit delete react react react again again read follow follow "
    "follow sanction sanction lift kick look wait wait restart together together together take_over take_over"
).split()
#: The name of an act, who does it, in which room, and a number that decides the rest.
Act = tuple[str, int, int, int]
ACT = st.tuples(
    st.sampled_from(ACTS), st.integers(0, len(PEOPLE) - 1), st.integers(0, len(NAMES) - 1), st.integers(0, 999)
)
#: Seconds on the clock in a real one, besides those that an act lets pass.
PACE = 1.0
#: Whatever waits while an act lets time pass, and for so many seconds: clients, and what the log does by itself.
PATIENT = (
    (peers, "PATIENCE"), (serving_module, "LIFE"),
    *((module, "ANSWER_DEADLINE") for module in (groups, database, connections, database_index)),
)  # fmt: skip
LONG = 80_000.0


async def play(acts: list[Act], engine: str) -> None:
    clock, start = trio.lowlevel.current_clock(), time.time()

    def wall_ms() -> int:
        return int((start + clock.current_time()) * 1000)

    with tempfile.TemporaryDirectory() as folder:
        settings: Any = {
            "token_key": (secret_file(Path(folder)),), "rooms": POLICIES, "presence_grace": 1.0,
            "edit_window": EDIT_WINDOW, "max_empty_rooms": len(NAMES),
            "ping_interval": 3600.0, "heartbeat_interval": 3600.0,
        }  # fmt: skip
        player = Player()
        left = [
            *acts,
            *(("look_around", who, 0, word) for who in range(len(PEOPLE)) for word in range(len(WORDS))),
            *(("look_into", who, room, who + room) for who in range(len(PEOPLE)) for room in range(len(NAMES))),
        ]
        while left:
            log: Log = MemoryLog(wall_ms=wall_ms) if engine == "memory" else SqliteLog(f"{folder}/db", wall_ms=wall_ms)
            async with serving(engine=log, **settings) as server:
                async with trio.open_nursery() as nursery:
                    await player.begin(server.address, nursery)
                    while left:
                        name, who, room, amount = left.pop(0)
                        player.model.now = trio.current_time()
                        if name in WRITES:
                            await player.write(name, PEOPLE[who], NAMES[room], amount)
                        elif name != "restart":
                            await getattr(player, name)(PEOPLE[who], NAMES[room], amount)
                        elif engine != "memory":
                            break
                    assert all(listener.heard.statistics().current_buffer_used == 0 for listener in player.listeners)
                    nursery.cancel_scope.cancel()
                os.kill(os.getpid(), signal.SIGTERM)
                await eventually(partial(is_stopped, server))


def is_stopped(server: Serving) -> bool:
    """Whether it has stopped as before a restart, with all markers stored."""
    stopped = any(line["event"] == "stopped" for line in server.logs)
    return stopped and server.server.parts.services.markers.waiting == 0


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@new_examples(5)
@given(acts=st.lists(ACT, min_size=15, max_size=60))
def test_the_chat_is_as_the_model(engine: str, acts: list[Act]) -> None:
    with ExitStack() as stack:
        for module, limit in PATIENT:
            stack.enter_context(mock.patch.object(module, limit, LONG))
        trio.run(play, acts, engine, clock=trio.testing.MockClock(rate=PACE))
