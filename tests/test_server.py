"""What a server does beside its connections: background tasks, retention.

Its start: test_cli.py; its end: tests/attacks/test_drain.py; faults in its chores: tests/edge/test_planted_faults.py.
"""

import itertools
import math
import re
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import trio

from chatserver import server as server_module
from chatserver.api.pipelines import results
from chatserver.fair import LongWork
from chatserver.log.interface import LogUnavailable
from chatserver.log.memory import MemoryLog
from chatserver.log.threads import THREAD_SWITCH
from chatserver.net import scheduler as scheduler_module
from chatserver.net.states import Priority
from chatserver.observe import memory
from chatserver.server import prepared
from chatserver.settings.fields import Settings
from chatserver.settings.rooms import RoomPolicy
from tests.support.certificates import certificate
from tests.support.peers import ask, chatter, publish
from tests.support.serving import Serving, eventually, serving, until
from tests.support.steps import FEW, StepCounts, few_in_a_step

pytestmark = pytest.mark.jumping_clock


async def search(server: Serving, words: str, user: str = "") -> list[str]:
    of_user = f"&user={user}" if user else ""
    found = (await ask(server.address, "GET", f"/search?q={words}&room=lobby{of_user}")).json["results"]
    return [message["text"] for message in found]


async def test_a_background_task_runs_again_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(faults=1) as server:
        parts = server.server.parts
        stored, store = 0, parts.services.audit._store

        async def break_once(*arguments: Any) -> None:
            nonlocal stored
            stored += 1
            if stored == 1:
                raise RuntimeError("planted")
            await store(*arguments)

        monkeypatch.setattr(parts.services.audit, "_store", break_once)
        for number in range(2):
            await search(server, "hello", user=f"u_{number}")

            async def is_stored(number: int = number) -> bool:
                trail = await parts.log.audit.read(after=None, limit=9)
                return [entry.target for entry in trail] == [f"u_{each}" for each in range(number + 1)]

            await eventually(is_stored)


async def test_a_certificate_that_clients_will_refuse_is_told_of_at_the_start_and_at_a_reload(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, days=(-30, 13))
    async with serving(tls_cert=cert, tls_key=key, allow_host=("LOCALHOST.", "chat.example")) as server:
        told = [line["reason"] for line in server.logs if line["event"] == "certificate_doubtful"]
        assert [" ".join(reason.split()[:3]) for reason in told] == ["it expires at", "it is not"]
        certificate(tmp_path)
        server.server._reload()
        assert [line["event"] for line in server.logs].count("certificate_doubtful") == 3


async def test_metrics_tell_when_the_certificate_in_use_expires(tmp_path: Path) -> None:
    """A renewal that fails sends no SIGHUP, so a server that runs for long would write no line about it."""
    cert, key = certificate(tmp_path, days=(-30, 20))
    async with serving(tls_cert=cert, tls_key=key) as server:

        async def days_left() -> int:
            told = (await ask(server.address, "GET", "/metrics")).body.decode()
            [end] = re.findall(r"^chatserver_certificate_expiry_timestamp_seconds (\S+)$", told, re.MULTILINE)
            return round((float(end) - time.time()) / 86_400)

        assert await days_left() == 20
        certificate(tmp_path, days=(-30, 50))
        server.server._reload()
        await until(days_left, lambda days: days == 50)


#: Settings, and how many of four messages from 61 s ago they leave.
RETENTIONS: list[tuple[dict[str, Any], int]] = [
    ({"retain_messages": 2}, 2),
    ({"retain_messages": 0, "retain_age": 60.0}, 0),
    ({"retain_messages": 0, "retain_age": 62.0}, 4),
    ({"retain_messages": 0, "rooms": (("lob*", RoomPolicy(retain_count=2)),)}, 2),
    ({"retain_messages": 0}, 4),
]


async def test_the_servers_own_work_does_not_wait_for_networks_that_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was one network in `BULK`: beside 8,000 others people saw who had come or gone seconds later."""
    now = 0.0

    def flood(_: object) -> bool:
        nonlocal now
        now += 0.0001
        return now < 10

    async with serving() as server:
        parts = server.server.parts
        sign_out: Any = parts.services.identities.signed_out.end
        scheduler = parts.connections.scheduler
        monkeypatch.setattr(scheduler_module, "perf_counter", lambda: now)
        for number in range(1000):
            scheduler.submit(Priority.NORMAL, flood, None, str(number))
        registry = parts.hub.registry
        works: list[LongWork] = [parts.hub.housekeeping._round, registry.evictions, registry._relief]
        for work in [*works, parts.admission._relief, sign_out.__self__._run]:
            for _ in range(10):
                work.begin()
                scheduler.round()
                assert work._left is None, work._work
        now = 10.0


@pytest.mark.parametrize(("settings", "left"), RETENTIONS)
async def test_old_messages_are_removed_after_attempts_that_failed(
    settings: dict[str, Any], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.server.RETENTION", 3.0)
    monkeypatch.setattr(results, "RESULT_LIFETIME", math.inf)
    faults = int(settings != {"retain_messages": 0})  # with nothing to remove the log is not asked
    async with serving(faults=faults, **settings) as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        log = server.server.parts.log
        assert isinstance(log, MemoryLog)
        for _ in range(4):
            await publish(server.address, "lobby", "hello")
        assert len(await search(server, "hello")) == 4
        now, retain, tried = log.wall_ms() + 61_000, log.retain, 0
        log.wall_ms = lambda: now

        failures = [LogUnavailable("the disk is full"), LogUnavailable("still full"), RuntimeError("planted"), None,
                    LogUnavailable("full again")]  # fmt: skip

        async def fail_sometimes(*arguments: Any) -> Any:
            nonlocal tried
            tried += 1
            if tried <= len(failures) and (failure := failures[tried - 1]) is not None:
                raise failure
            return await retain(*arguments)

        monkeypatch.setattr(log, "retain", fail_sometimes)
        if faults:
            await eventually(lambda: tried == 6)
        else:
            await trio.sleep(6.0)
            assert tried == 0
        await until(lambda: search(server, "hello"), lambda found: len(found) == left)
        page = (await ask(server.address, "GET", "/rooms/lobby/messages?after=0")).json
        assert (page["recovered"], len(page["messages"])) == (left == 4, left)
        failed = [line["reason"] for line in server.logs if line["event"] == "retention_failed"]
        assert failed == ["the disk is full", "full again"] * faults


async def test_rooms_that_lost_messages_are_visited_few_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50,000 it took 14 ms, each minute in which all of them have messages that are too old."""
    monkeypatch.setattr("chatserver.server.RETENTION", 5.0)
    async with serving(retain_messages=1) as server:
        parts, visited = server.server.parts, dict[str, int]()
        firsts = {f"room-{number}": 2 for number in range(20)}

        async def retain(keeps: object) -> dict[str, int]:
            return firsts

        def retained(rooms: dict[str, int]) -> None:
            visited.update(rooms)
            for _ in rooms:
                steps.count()

        monkeypatch.setattr(parts.log, "retain", retain)
        monkeypatch.setattr(parts.hub, "retained", retained)
        few_in_a_step(monkeypatch)
        with StepCounts() as steps:
            await eventually(lambda: visited == firsts)
        assert max(steps.counts) <= FEW


def test_a_thread_of_the_log_soon_interrupts_a_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "raise_descriptor_limit", lambda: 1000)
    monkeypatch.setattr(server_module, "share_heap", lambda: None)
    monkeypatch.setattr(sys, "setswitchinterval", chosen := Mock())
    with prepared(Settings(max_connections=10)):
        chosen.assert_called_once_with(THREAD_SWITCH)


async def test_the_chores_of_a_second_are_steps_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside 10,000 networks it takes 1.5 ms to look at one limit, and no step may take as long as all of them."""
    done = list[str]()
    monkeypatch.setattr(memory, "CROWD", 0)  # so that each second memory is given back
    monkeypatch.setattr(server_module, "find_trim", lambda: lambda _: done.append("trim"))
    async with serving() as server:
        services, scheduler = server.server.parts.services, server.server.parts.connections.scheduler
        run_round = scheduler.round

        def note_round() -> None:
            done.append("round")
            run_round()

        monkeypatch.setattr(scheduler_module, "perf_counter", itertools.count(step=1.0).__next__)  # one step in a round
        monkeypatch.setattr(scheduler, "round", note_round)
        monkeypatch.setattr(services.slow_mode, "sweep", lambda: done.append("slow mode"))
        monkeypatch.setattr(services.audit, "sweep", lambda: done.append("audit"))
        await eventually(lambda: {"audit", "trim"} <= {*done})
        assert "round" in done[done.index("slow mode") : done.index("audit")]
