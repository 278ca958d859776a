"""Sanctions of every engine: one of a kind for each user or network in a room, with its entry, and not too many."""

import pytest

from chatserver.log import sanctions as sanctions_module
from chatserver.log import tables as tables_module
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import Log
from chatserver.log.sanctions import EVERYWHERE, Penalty, Sanction, TooManySanctionsError
from tests.log.support import START_MS

ENTRY = AuditEntry(START_MS, "u_mod", "Mod", "192.0.2.1", "mute", "lobby")


def sanction(
    user: str = "u_bob", *, room: str = "lobby", kind: Penalty = Penalty.MUTE, network: str = "", until: int = 0,
    time: int = START_MS,
) -> Sanction:  # fmt: skip
    return Sanction(room, kind, user, network, until, "spam", "u_mod", "Mod", time, "Bob")


async def ids(log: Log, now_ms: int = START_MS) -> list[int]:
    return [each.id for each in await log.sanctions.load(now_ms)]


async def entries(log: Log) -> int:
    return len(await log.audit.read(after=0, limit=100))


async def test_sanctions_are_read_back_unchanged_until_they_expire(log: Log) -> None:
    assert await log.sanctions.load(START_MS) == []
    made = [
        await log.sanctions.add(sanction(until=START_MS + 1), ENTRY),
        await log.sanctions.add(sanction("", network="2001:db8::/64", kind=Penalty.BAN, room=EVERYWHERE), ENTRY),
    ]
    assert [each.id for each in made] == [1, 2]
    assert made[0].user == "u_bob"
    assert await log.sanctions.load(START_MS) == made
    assert await ids(log, START_MS + 1) == [2]
    assert await entries(log) == 2


async def test_a_sanction_replaces_an_equal_one(log: Log) -> None:
    await log.sanctions.add(sanction(), ENTRY)
    others = [
        sanction(room=EVERYWHERE),
        sanction(kind=Penalty.BAN),
        sanction("u_cid"),
        sanction("", network="192.0.2.9"),
    ]
    for other in others:
        await log.sanctions.add(other, ENTRY)
    again = await log.sanctions.add(sanction(until=START_MS + 5), ENTRY)
    assert again.id == 6
    assert await ids(log) == [2, 3, 4, 5, 6]


async def test_the_listing_has_the_newest_of_those_with_all_named_fields(log: Log) -> None:
    for made in (
        sanction(until=START_MS + 9),
        sanction("u_cid", room="ops"),
        sanction("", network="192.0.2.9", room=EVERYWHERE),
        sanction("u_cid"),
        sanction(kind=Penalty.BAN, until=START_MS + 1),
    ):
        await log.sanctions.add(made, ENTRY)

    async def listed(limit: int = 9, **fields: str | int) -> list[int]:
        return [each.id for each in await log.sanctions.listing(START_MS + 1, limit, **fields)]

    assert await listed() == [4, 3, 2, 1]
    assert await listed(2) == [4, 3]
    assert await listed(room="lobby") == [4, 1]
    assert await listed(room="lobby", user="u_cid") == [4]
    assert await listed(network="192.0.2.9") == [3]
    assert await listed(id=1) == [1]
    assert await listed(id=5) == [], "it is over"


async def test_a_lifted_sanction_is_removed_and_its_id_is_not_used_again(log: Log) -> None:
    await log.sanctions.add(sanction(), ENTRY)
    assert await log.sanctions.lift(1, ENTRY)
    assert await log.sanctions.lift(1, ENTRY) is False
    assert await entries(log) == 2, "one for the sanction, one for its lift"
    assert (await log.sanctions.add(sanction(), ENTRY)).id == 2


async def test_too_many_are_refused_and_expired_ones_do_not_count(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanctions_module, "MAX_SANCTIONS", 2)
    await log.sanctions.add(sanction("u_a", until=START_MS + 10), ENTRY)
    await log.sanctions.add(sanction("u_b"), ENTRY)
    with pytest.raises(TooManySanctionsError):
        await log.sanctions.add(sanction("u_c"), ENTRY)
    assert await entries(log) == 2, "a refusal writes no entry"
    assert (await log.sanctions.add(sanction("u_b"), ENTRY)).user == "u_b", "a replacement does not count as one more"
    await log.sanctions.add(sanction("u_c", time=START_MS + 10), ENTRY)
    assert [each.user for each in await log.sanctions.load(START_MS + 10)] == ["u_b", "u_c"]


async def test_of_many_that_have_ended_some_are_removed_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 32,000 had ended, messages in SQLite waited 0.8 s for the next."""
    monkeypatch.setattr(tables_module, "EXPIRED_AT_ONCE", 2, raising=False)
    await log.sanctions.add(sanction("u_a"), ENTRY)
    for number in range(5):
        await log.sanctions.add(sanction(f"u_{number}", until=START_MS + 10 - number), ENTRY)
    for left in ([1, 2, 3, 4, 7], [1, 2, 8], [1, 9]):
        await log.sanctions.add(sanction("u_b", time=START_MS + 10), ENTRY)
        assert await ids(log, 0) == left
