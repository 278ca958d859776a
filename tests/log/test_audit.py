"""The audit trail of every engine: in order, read after an id, and bounded; no minor entry displaces another."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from chatserver.log import audit as audit_module
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import Log
from tests.log.support import START_MS, running


def entry(action: str, *, minor: bool = False, time: int = START_MS) -> AuditEntry:
    return AuditEntry(time, "u_ann", "Ann", "192.0.2.1", action, "lobby", "u_bob", "why", "Bob", minor=minor)


async def actions(log: Log, after: int | None = None, limit: int = 100) -> list[str]:
    return [found.action for found in await log.audit.read(after=after, limit=limit)]


async def test_the_trail_is_read_after_an_id_or_from_the_end(log: Log) -> None:
    assert await log.audit.read(after=None, limit=5) == []
    added = [entry(str(number), minor=number % 2 == 0) for number in range(1, 8)]
    await log.audit.add(added[:5])
    await log.audit.add(added[5:])
    assert await log.audit.read(after=0, limit=3) == [replace(each, id=id_) for id_, each in enumerate(added[:3], 1)]
    assert await actions(log, after=3, limit=3) == ["4", "5", "6"]
    assert await actions(log, after=7) == []
    assert await actions(log, limit=2) == ["6", "7"]
    assert await actions(log, limit=0) == []
    assert await actions(log, after=0, limit=-1) == []


async def test_minor_entries_never_displace_others(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "MAX_ENTRIES", 3)
    monkeypatch.setattr(audit_module, "MAX_MINOR_ENTRIES", 2)
    monkeypatch.setattr(audit_module, "TRIM_EVERY", 1)
    await log.audit.add([entry("mute"), *[entry(f"refused {each}", minor=True) for each in range(5)]])
    assert await actions(log) == ["mute", "refused 3", "refused 4"]
    await log.audit.add([entry("ban"), entry("kick"), entry("delete")])
    assert await actions(log) == ["refused 3", "refused 4", "ban", "kick", "delete"]
    assert (await log.audit.read(after=None, limit=1))[0].id == 9, "an id is never used twice"


async def test_the_number_of_entries_is_looked_at_now_and_then(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each entry all of 100,000 were counted, in the thread that commits, or for 65 ms in PostgreSQL."""
    monkeypatch.setattr(audit_module, "MAX_ENTRIES", 2)
    monkeypatch.setattr(audit_module, "TRIM_EVERY", 4)
    kept = []
    for number in range(1, 9):
        await log.audit.add([entry(str(number))])
        kept.append(len(await actions(log)))
    assert kept == [1, 2, 3, 2, 3, 4, 5, 2]


async def test_old_entries_are_removed(log: Log) -> None:
    await log.audit.add([entry("old"), entry("old refusal", minor=True), entry("younger", time=START_MS + 1)])
    await log.audit.add([entry("new", time=START_MS + 1 + audit_module.MAX_AGE_MS)])
    assert await actions(log) == ["younger", "new"]


async def test_of_many_old_entries_some_are_removed_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a year without a new one, all were removed with the next; messages waited for that."""
    monkeypatch.setattr(audit_module, "EXPIRED_AT_ONCE", 2, raising=False)
    await log.audit.add([entry(str(number)) for number in range(5)])
    for left in (["2", "3", "4"], ["4"], []):
        await log.audit.add([entry("new", time=START_MS + 1 + audit_module.MAX_AGE_MS)])
        assert [action for action in await actions(log) if action != "new"] == left


async def test_a_repeated_group_is_stored_once(reopen: Callable[[], Log]) -> None:
    async with running(reopen()) as log:
        for again in (True, True, False):
            await log.audit.add([entry("mute"), entry("refused", minor=True)], again=again)
        await log.audit.add([entry("ban"), entry("mute")], again=True)
        assert await actions(log) == ["mute", "refused", "mute", "refused", "ban", "mute"]
