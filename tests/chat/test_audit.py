"""Entries that are written into the audit trail in the background."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from chatserver.chat import audit as audit_module
from chatserver.chat.audit import GROUP_INTERVAL, REFUSAL_BURST, REFUSAL_RATE, AuditTrail
from chatserver.chat.principal import Principal
from chatserver.log.audit import Audit, AuditEntry
from chatserver.log.interface import Draft, Kind, LogUnavailable


def deletion(target: int) -> Draft:
    return Draft("lobby", "u_mod", "Mod", "", network="192.0.2.9", kind=Kind.DELETE, target=target, as_moderator=True)


ANN, BOB = Principal(1, "192.0.2.1"), Principal(2, "192.0.2.2")


class Kept(Audit):
    """An `Audit` that can fail and hang. Like one in a file, it stores its entries although it is cancelled."""

    def __init__(self) -> None:  # no database is needed
        self.groups: list[list[str]] = []
        self.entries: list[AuditEntry] = []
        self.failing = self.faults = 0
        self.late = 0  # attempts that store their entries and fail
        self.delay = 0.0

    async def add(self, entries: Sequence[AuditEntry], *, again: bool = False) -> None:
        try:
            await trio.sleep(self.delay)
        finally:
            if not (again and entries[0] in self.entries):
                self._add(entries)
        if self.late:
            self.late -= 1
            raise LogUnavailable("the disk did not answer in time")

    def _add(self, entries: Sequence[AuditEntry]) -> None:
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError
        if self.failing:
            self.failing -= 1
            raise LogUnavailable("the disk is full")
        self.groups.append([entry.target or entry.detail for entry in entries])
        self.entries += entries


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
    with capture_logs() as lines:
        for target in (7, 8):
            trail.note_deletion(deletion(target))
    assert [(line["event"], line["by"], line["peer"], line["target"]) for line in lines] == [
        ("delete", "u_mod", "192.0.2.9", "7"), ("delete", "u_mod", "192.0.2.9", "8"),
    ]  # fmt: skip
    await trio.sleep(3.5 * GROUP_INTERVAL)
    assert kept.groups == [["7", "8"]]
    assert kept.entries[0] == AuditEntry(5, "u_mod", "Mod", "192.0.2.9", "delete", "lobby", "7")
    trail.note_deletion(deletion(9))
    scope.cancel()
    await trio.sleep(GROUP_INTERVAL)
    assert kept.groups[1:] == [["9"]]


async def test_a_group_in_storage_at_the_end_is_stored_once(trail: AuditTrail) -> None:
    """A thread does not stop when its task is cancelled, so its group must not be stored again as the last one."""
    kept = Kept()
    kept.delay = 1.0
    trail.note_deletion(deletion(7))
    with trio.move_on_after(GROUP_INTERVAL + kept.delay / 2):
        await trail.run(kept)
    assert kept.groups == [["7"]]


@pytest.mark.parametrize(("failing", "late"), [(2, 0), (0, 2)])
async def test_a_failed_group_is_tried_again_in_order(
    trail: AuditTrail, nursery: trio.Nursery, failing: int, late: int
) -> None:
    """A slow disk has stored the group after the deadline; the next attempt must not store it twice."""
    kept = Kept()
    nursery.start_soon(trail.run, kept)
    for target in (1, 3):
        kept.failing, kept.late = failing, late
        with capture_logs() as lines:
            trail.note_deletion(deletion(target))
            await trio.sleep(1.5 * GROUP_INTERVAL)
            trail.note_deletion(deletion(target + 1))
            await trio.sleep(4 * GROUP_INTERVAL)
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["audit_failed"], "once"
    assert kept.groups == [["1"], ["2"], ["3"], ["4"]]
    nursery.cancel_scope.cancel()


async def test_an_entry_tried_elsewhere_is_stored_behind_a_group_that_may_be_stored(
    trail: AuditTrail, nursery: trio.Nursery
) -> None:
    kept = Kept()
    kept.late = 1
    nursery.start_soon(trail.run, kept)
    for target in (1, 2):
        trail.note_deletion(deletion(target))
    await trio.sleep(1.5 * GROUP_INTERVAL)
    trail.store_again(trail.entry(ANN, "mute", "lobby", "3"), LogUnavailable("the disk is full"))
    await trio.sleep(2 * GROUP_INTERVAL)
    assert kept.groups == [["1", "2"], ["3"]]


async def test_entries_that_are_lost_at_the_end_are_counted_in_the_log(trail: AuditTrail) -> None:
    kept = Kept()
    kept.failing = 1
    for target in (1, 2):
        trail.note_deletion(deletion(target))
    with capture_logs() as lines, trio.move_on_after(GROUP_INTERVAL / 2):
        await trail.run(kept)
    assert [(line["event"], line.get("entries")) for line in lines] == [("audit_failed", None), ("audit_lost", 2)]


async def test_after_a_fault_the_waiting_entries_are_stored_without_another_entry(
    trail: AuditTrail, nursery: trio.Nursery
) -> None:
    """The restarted task must not wait for the next entry first."""
    kept = Kept()
    kept.faults = 1
    trail.note_deletion(deletion(1))
    with pytest.raises(ZeroDivisionError):
        await trail.run(kept)
    nursery.start_soon(trail.run, kept)
    await trio.sleep(2 * GROUP_INTERVAL)
    assert kept.groups == [["1"]]


async def test_a_disk_that_hangs_costs_bounded_memory_and_time_and_the_log_says_what_is_lost(
    trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MAX_WAITING", 3)  # one of them may be a refusal
    kept = Kept()
    for who in (ANN, BOB):
        trail.note_refusal(who, "kick", "lobby")
    for target in range(4):
        trail.note_deletion(deletion(target))
    async with trio.open_nursery() as running:
        running.start_soon(trail.run, kept)
        with capture_logs() as lines:
            await trio.sleep(1.5 * GROUP_INTERVAL)
        running.cancel_scope.cancel()
    assert kept.groups == [["kick", "0", "1"]]
    assert [(line["event"], line["entries"]) for line in lines] == [("audit_lost", 3)]
    kept.delay = 1000.0
    trail.note_deletion(deletion(5))
    began = trio.current_time()
    with capture_logs() as lines, trio.move_on_after(GROUP_INTERVAL / 2):
        await trail.run(kept)
    assert trio.current_time() - began == GROUP_INTERVAL / 2 + audit_module.LAST_GROUP_DEADLINE
    assert [(line["event"], line["entries"]) for line in lines] == [("audit_lost", 1)]


async def test_the_minor_entries_of_a_user_are_limited(trail: AuditTrail) -> None:
    kept = Kept()
    for _ in range(100):
        trail.note_refusal(ANN, "kick", "lobby")
    for who in (ANN, BOB):
        trail.note_search(who, "u_eve", "lobby")
    trail.note_deletion(deletion(7))
    with trio.move_on_after(GROUP_INTERVAL * 1.5):
        await trail.run(kept)
    assert kept.groups == [["kick"] * REFUSAL_BURST + ["u_eve", "7"]]
    assert [entry.minor for entry in kept.entries] == [True] * (REFUSAL_BURST + 1) + [False]
    await trio.sleep(1 / REFUSAL_RATE)
    trail.sweep()
    trail.note_refusal(ANN, "kick", "lobby")
    with trio.move_on_after(GROUP_INTERVAL * 1.5):
        await trail.run(kept)
    assert kept.groups[1:] == [["kick"]]
