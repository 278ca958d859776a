"""What is written into the audit trail without being waited for."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from chatserver.chat import audit as audit_module
from chatserver.chat.audit import GROUP_INTERVAL, MINOR_BURST, MINOR_RATE, AuditTrail
from chatserver.chat.principal import Principal
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import LogUnavailable

ANN, BOB = Principal(1, "192.0.2.1"), Principal(2, "192.0.2.2")


class Kept:
    """An `Audit` that fails when it is told to, and hangs."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.entries: list[AuditEntry] = []
        self.failing = 0
        self.delay = 0.0

    async def add(self, entries: Sequence[AuditEntry]) -> None:
        await trio.sleep(self.delay)
        if self.failing:
            self.failing -= 1
            raise LogUnavailable("the disk is full")
        self.groups.append([entry.action for entry in entries])
        self.entries += entries

    async def read(self, *, after: int | None, limit: int) -> list[AuditEntry]:
        raise NotImplementedError


@pytest.fixture
async def trail(autojump_clock: trio.testing.MockClock) -> AuditTrail:
    return AuditTrail(wall_ms=lambda: 5)


async def test_entries_are_stored_together_and_the_last_ones_at_the_end(
    trail: AuditTrail, nursery: trio.Nursery
) -> None:
    kept = Kept()
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await trail.run(kept)

    nursery.start_soon(run)
    for action in ("delete", "kick"):
        trail.note(ANN, action, "lobby", "7", "why")
    await trio.sleep(3.5 * GROUP_INTERVAL)
    assert kept.groups == [["delete", "kick"]]
    face = ANN.face
    assert kept.entries[0] == AuditEntry(5, face.id, face.name, "192.0.2.1", "delete", "lobby", "7", "why")
    trail.note(ANN, "late", "lobby")
    scope.cancel()
    await trio.sleep(GROUP_INTERVAL)
    assert kept.groups[1:] == [["late"]]


async def test_what_could_not_be_stored_is_tried_again_in_its_order(trail: AuditTrail, nursery: trio.Nursery) -> None:
    kept = Kept()
    kept.failing = 2
    nursery.start_soon(trail.run, kept)
    trail.note(ANN, "one", "lobby")
    await trio.sleep(1.5 * GROUP_INTERVAL)
    trail.note(ANN, "two", "lobby")
    await trio.sleep(3 * GROUP_INTERVAL)
    assert kept.groups == [["one", "two"]]
    nursery.cancel_scope.cancel()


async def test_a_disk_that_hangs_costs_memory_for_so_many_and_time_at_the_end_for_so_long(
    trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MAX_WAITING", 3)
    kept = Kept()
    kept.delay = 1000.0
    for _ in range(5):
        trail.note(ANN, "delete", "lobby")
    assert trail.lost == 2
    began = trio.current_time()
    with trio.move_on_after(GROUP_INTERVAL / 2):
        await trail.run(kept)
    assert trio.current_time() - began == GROUP_INTERVAL / 2 + audit_module.LAST_GROUP


async def test_nobody_has_more_minor_entries_written_than_so_many(trail: AuditTrail) -> None:
    kept = Kept()
    for _ in range(100):
        trail.note_minor(ANN, "refused", "lobby")
    trail.note_minor(BOB, "refused too", "lobby")
    trail.note(ANN, "delete", "lobby")
    with trio.move_on_after(GROUP_INTERVAL * 1.5):
        await trail.run(kept)
    assert kept.groups == [["refused"] * MINOR_BURST + ["refused too", "delete"]]
    assert [entry.minor for entry in kept.entries] == [True] * (MINOR_BURST + 1) + [False]
    await trio.sleep(1 / MINOR_RATE)
    trail.sweep()
    trail.note_minor(ANN, "refused again", "lobby")
    with trio.move_on_after(GROUP_INTERVAL * 1.5):
        await trail.run(kept)
    assert kept.groups[1:] == [["refused again"]]
