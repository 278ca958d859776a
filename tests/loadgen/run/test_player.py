"""The order of a run's events, where a whole run would take too long."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from loadgen.net.target import Page
from loadgen.personas import registry
from loadgen.run import experiment
from loadgen.run.player import Player
from loadgen.run.procfs import Process
from loadgen.run.workers import Workers
from tests.loadgen.plays import plan
from tests.loadgen.readings import NOBODY


class _NobodyAnswers:
    """The session and the crowd of a run in which no acknowledgement comes, nor a message to any member."""

    quiet = False

    def __init__(self) -> None:
        self.seconds = 0.0

    async def enter(self, phase: str) -> None:
        assert phase == "drain"

    async def call(self, method: object) -> None:
        pass

    async def until(self, ready: Callable[[], bool], limit: float) -> bool:
        self.seconds += limit
        return ready()

    async def missed(self, crowd: object) -> int:
        self.seconds += 1.0
        return 1


async def test_a_reading_has_what_all_processes_have_acknowledged_so_far() -> None:
    """The rate of a phase is what came between its two readings."""
    process = SimpleNamespace(cpu_seconds=lambda: None)
    statuses = [SimpleNamespace(acknowledged=3), SimpleNamespace(acknowledged=4), None]  # one is gone
    player = Player(plan(NOBODY), experiment.honest_load({registry()["idle"]: 1}, rate=0, seconds=1, rooms=("lobby",)))
    player._crowd = Workers([cast(Any, SimpleNamespace(status=each, watched=process)) for each in statuses])
    assert player._reading().acknowledged == 7


async def test_a_slow_page_is_not_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Echoes of 1.1 s were in time at a server on this machine whose page took 0.9 s."""
    monkeypatch.setattr("loadgen.run.session.fetch", lambda *_: Page(200, 0.9, way_seconds=0.01))
    player = Player(plan(NOBODY), experiment.honest_load({registry()["idle"]: 1}, rate=0, seconds=1, rooms=("lobby",)))
    await player._look()
    assert player._measured.round_trip_seconds == 0.01
    assert player._page_seconds == 0.9, "nor is it asked faster than it answers"


def test_a_reading_has_how_long_each_thread_of_the_server_waited() -> None:
    what = experiment.honest_load({registry()["idle"]: 1}, rate=0, seconds=1, rooms=("lobby",))
    waits = Player(replace(plan(NOBODY), server=Process(os.getpid())), what)._reading().server_waits
    assert threading.get_native_id() in waits


@pytest.mark.usefixtures("autojump_clock")
async def test_what_is_awaited_in_the_drain_has_its_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledgements had 5 s, and deliveries 5 s more."""
    what = experiment.honest_load({registry()["chat"]: 2}, rate=1, seconds=1, rooms=("lobby",))
    player, nobody = Player(plan(NOBODY), what), _NobodyAnswers()
    monkeypatch.setattr("loadgen.run.player.now", lambda: nobody.seconds)
    player._session = player._crowd = cast(Any, nobody)
    await player._drain()
    assert nobody.seconds == what.drain_seconds == 5.0
