"""The supervisor, with fake workers: a hangup replaces them one after the other."""

import errno
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio

from chatserver.exits import EXIT_LOG
from chatserver.settings.fields import Settings
from chatserver.settings.spec import ConfigError
from tests.workers.fakes import KILLED, FakeWorker, hang_up, supervised

pytestmark = pytest.mark.jumping_clock


def numbers(workers: Iterable[FakeWorker]) -> set[int]:
    """The numbers of their sockets in the shared folder."""
    return {worker.setup.number for worker in workers}


async def test_a_hangup_replaces_one_after_the_other(tmp_path: Path) -> None:
    """Each replacement is ready before a worker is stopped; settings are read again, except those of bound things."""
    ready: list[tuple[int, int]] = []
    async with supervised(tmp_path) as it:
        old = list(it.started)

        def direct(worker: FakeWorker) -> None:
            ready.append((worker.number, sum(each.stops == 0 for each in it.running)))

        it.direct = direct
        key = tmp_path / "token.key"
        key.touch()
        it.settings = Settings(
            workers=5, port=1, log="sqlite:other.db", per_ip=7, head_deadline=3.0, token_key=(str(key),)
        )
        await hang_up()
        await it.logged("workers_replaced")
        new = it.started[2:]
        assert [(worker.number, worker.stops) for worker in it.started] == [(1, 1), (2, 1), (1, 0), (2, 0)]
        assert ready == [(1, 3), (2, 3)], "the two that are not stopped, and itself"
        assert [worker.setup.settings.head_deadline for worker in new] == [3.0, 3.0]
        assert [worker.setup.settings.log for worker in new] == [old[0].setup.settings.log] * 2
        assert [line["setting"] for line in it.events("needs_restart")] == ["port", "workers", "log"]
        assert it.events("worker_died") == it.events("worker_killed") == []
        new[0].end(KILLED)
        await it.has_started(5)
        assert it.started[4].setup.settings.head_deadline == 3.0, "a restart has the new settings"


@pytest.mark.parametrize(
    ("found", "event", "why"),
    [
        (ConfigError("config", "chat.toml is not TOML"), "settings_not_reloaded", "chat.toml is not TOML"),
        ("token.key", "settings_not_reloaded", "does not exist"),  # a worker would make it anew
        ("x" * 300, "settings_not_reloaded", "cannot be read"),
        (ZeroDivisionError(), "workers_not_replaced", ""),
    ],
    ids=["settings", "missing", "unreadable", "a fault"],
)
async def test_invalid_settings_replace_no_worker(
    tmp_path: Path, found: Exception | str, event: str, why: str
) -> None:  # fmt: skip
    async with supervised(tmp_path) as it:

        def load() -> Settings:
            if isinstance(found, Exception):
                raise found
            return replace(it.settings, token_key=(str(tmp_path / found),))

        it.supervisor._load = load
        for attempts in (1, 2):
            await hang_up()
            await it.logged(event, attempts)
        assert why in it.events(event)[0].get("reason", "")
        assert len(it.started) == 2


@pytest.mark.parametrize("how", ["ends", "hangs", "cannot be made"])
async def test_a_replacement_that_cannot_serve_replaces_no_worker(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.workers.child.MAX_STARTING_CHECKS", 5)
    async with supervised(tmp_path) as it:
        if how == "cannot be made":
            it.failing = [OSError(errno.ENOMEM, "no memory")]
        it.manner = {"ready": False, "beats": False, "code_at_start": 2 if how == "ends" else None}
        for attempts in (1, 2):
            await hang_up()
            await it.logged("worker_not_replaced", attempts)
        await trio.sleep(60)
        assert [(worker.number, worker.stops) for worker in it.running] == [(1, 0), (2, 0)]
        assert len(it.started) == 4 - (how == "cannot be made")
        assert it.events("workers_replaced") == []
        serving, failed = it.started[:2], it.started[2:]
        assert not numbers(serving) & numbers(failed), "it would take the sockets of a worker that still serves"


async def test_a_replacement_is_tried_again_while_the_log_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a certificate that is renewed while the database restarts would not be read.

    A new signal has the settings read again at once: it was looked at only after the pause.
    """
    monkeypatch.setattr("chatserver.workers.supervisor.REPLACE_PAUSE", 2.0)
    async with supervised(tmp_path) as it:
        it.manner = {"code_at_start": EXIT_LOG}
        await hang_up()
        await it.logged("worker_not_replaced")
        monkeypatch.setattr("chatserver.workers.supervisor.REPLACE_PAUSE", 1e6)
        await it.logged("worker_not_replaced", 2)
        assert [(worker.number, worker.stops) for worker in it.running] == [(1, 0), (2, 0)]
        it.settings = replace(it.settings, head_deadline=3.0)
        it.manner = {}
        await hang_up()
        await it.logged("workers_replaced")
        await trio.sleep(5)
        assert [worker.setup.settings.head_deadline for worker in it.running] == [3.0, 3.0]
        assert len(it.started) == 6, "two, two that could not start, and their replacements"
        monkeypatch.setattr("chatserver.workers.supervisor.REPLACE_PAUSE", 2.0)
        it.manner = {"code_at_start": EXIT_LOG}
        await hang_up()
        await it.logged("worker_not_replaced", 3)
        signal.raise_signal(signal.SIGTERM)
        await it.until(lambda: it.code is not None)
        assert it.code == 0


async def test_a_replacement_that_is_told_to_stop_is_no_error(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.manner = {"ready": False}
        await hang_up()
        await it.has_started(3)
        signal.raise_signal(signal.SIGTERM)
        await it.until(lambda: it.code is not None)
        assert (it.code, it.events("worker_not_replaced")) == (0, [])


async def test_a_worker_that_starts_beside_a_draining_one_has_other_sockets(tmp_path: Path) -> None:
    """The replacement dies while the worker that it replaced still drains."""
    async with supervised(tmp_path) as it:
        draining = it.started[0]
        draining.drains = False
        await hang_up()
        await it.until(lambda: draining.stops)
        it.started[2].end(KILLED)
        await it.has_started(4)
        assert len(numbers(it.running)) == 3


async def test_a_worker_that_dies_while_it_is_replaced_has_one_successor(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.direct = lambda worker: it.started[worker.number - 1].end(KILLED)
        await hang_up()
        await it.logged("workers_replaced")
        await trio.sleep(60)
        assert sorted(worker.number for worker in it.running) == [1, 2]


class AtStep(trio.abc.Instrument):
    """Calls `act` after so many steps of tasks."""

    def __init__(self, steps: int, act: Callable[[], object]) -> None:
        self.left = steps
        self.fault: Exception | None = None
        self._act = act

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            try:
                self._act()
            except Exception as error:  # noqa: BLE001  raised by the test; trio would only log it
                self.fault = error


async def test_a_worker_may_be_told_to_stop_at_any_step_of_its_end(tmp_path: Path) -> None:
    """At one step that raised, so a hangup replaced no further worker, and at a signal the others were told nothing."""
    async with supervised(tmp_path) as it:
        children = it.supervisor._children
        for steps in count(1):
            worker = it.running[0]
            [child] = (child for child in children if child.number == worker.number)
            at_step = AtStep(steps, partial(child.stop, at_once=True))
            trio.lowlevel.add_instrument(at_step)
            worker.end(KILLED)
            await child.ended.wait()
            trio.lowlevel.remove_instrument(at_step)
            assert at_step.fault is None
            if at_step.left > 0:
                break
            await it.until(lambda: len(it.running) == 2 and all(child.ready for child in children))
        assert steps > 5, "steps of its end were seen"


async def test_a_worker_that_does_not_drain_in_time_is_killed(tmp_path: Path) -> None:
    """Its own settings give it the time, not those of its replacement."""
    async with supervised(tmp_path, drain_timeout=5.0) as it:
        it.settings = replace(it.settings, drain_timeout=1.0)
        for worker in it.started:
            worker.drains = False
        began = trio.current_time()
        await hang_up()
        await it.logged("workers_replaced")
        assert 16 <= trio.current_time() - began <= 20
        assert [worker.returncode for worker in it.started] == [KILLED, KILLED, None, None]
        assert [line["worker"] for line in it.events("worker_killed")] == [1, 2]
