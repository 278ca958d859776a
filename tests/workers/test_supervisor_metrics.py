"""What the supervisor makes of the numbers of its workers, which are fakes here."""

from pathlib import Path
from unittest import mock

import pytest
import trio

from chatserver.observe.numbers import Family
from chatserver.workers.child import COLLECT_PATIENCE
from chatserver.workers.link import Ask
from tests.workers.fakes import KILLED, supervised

pytestmark = pytest.mark.jumping_clock


def counted(messages: float, open_connections: float, stall: float) -> list[Family]:
    return [
        Family("chatserver_messages", "Messages", "counter", [("chatserver_messages_total", {}, messages)]),
        Family(
            "chatserver_connections", "Held", "gauge",
            [("chatserver_connections", {"phase": "open"}, open_connections)],
        ),
        Family("chatserver_gc_max_seconds", "Longest", "gauge", [("chatserver_gc_max_seconds", {}, stall)]),
    ]  # fmt: skip


async def test_a_fault_in_the_metrics_costs_one_answer(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        asking = it.started[0]
        with mock.patch("chatserver.observe.numbers.Totals.text", side_effect=ZeroDivisionError):
            await asking.link.send(Ask())
            await trio.sleep(2 * COLLECT_PATIENCE)
        assert len(it.events("worker_metrics_failed")) == 1
        assert "chatserver_workers_ready 2.0" in (await asking.ask()).splitlines()


async def test_every_worker_returns_the_numbers_of_all(tmp_path: Path) -> None:
    """Counts of dead workers stay, and a silent worker counts with its last numbers."""
    async with supervised(tmp_path) as it:
        first, second = it.started
        first.numbers, second.numbers = counted(100, 5, 0.25), counted(11, 2, 0.5)
        for asked in (first, second):
            lines = (await asked.ask()).splitlines()
            assert {
                "chatserver_messages_total 111.0", 'chatserver_connections{phase="open"} 7.0',
                "chatserver_gc_max_seconds 0.5", "chatserver_workers_ready 2.0",
                'chatserver_worker_connections{worker="1"} 5.0', 'chatserver_worker_connections{worker="2"} 2.0',
            } <= set(lines)  # fmt: skip
        first.numbers, began = counted(150, 5, 0.25), trio.current_time()
        assert "chatserver_messages_total 161.0" in (await first.ask()).splitlines(), "the numbers of now"
        assert trio.current_time() < began + COLLECT_PATIENCE, "which nobody waits for longer than they take"
        second.end(KILLED)
        await it.has_started(3)
        lines = (await first.ask()).splitlines()
        assert {
            "chatserver_messages_total 161.0", 'chatserver_connections{phase="open"} 5.0',
            'chatserver_worker_deaths_total{how="died"} 1.0',
        } <= set(lines)  # fmt: skip
        third = it.started[2]
        third.numbers, third.beats = counted(1000, 1, 0), False
        assert "chatserver_messages_total 161.0" in (await first.ask()).splitlines()
