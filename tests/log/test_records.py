"""Changes of messages, in every engine: records and news, the present state of a message, refusals."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from chatserver.log import changes, database
from chatserver.log.database import DatabaseLog
from chatserver.log.interface import (
    KEY_LIFETIME_MS,
    MAX_EMOJI,
    Draft,
    Head,
    Kind,
    Log,
    LogError,
    LogUnavailable,
    MessageState,
    Range,
    Reaction,
    Record,
    RefusalReason,
    Refused,
    Stored,
)
from chatserver.log.memory import MemoryLog
from chatserver.log.rows import bounds_of
from chatserver.log.sqlite_schema import OFFSETS
from tests.log.support import START_MS, Clock, draft, fill, offsets, submit_all, texts
from tests.support.groups import append

WINDOW_MS = 900_000


def edit(target: int, text: str, *, user: str = "u_ann", key: str | None = None) -> Draft:
    return replace(draft(text, user=user, key=key), kind=Kind.EDIT, target=target, window_ms=WINDOW_MS)


def delete(target: int, *, user: str = "u_ann", as_moderator: bool = False, key: str | None = None) -> Draft:
    change = replace(draft("", user=user, key=key), kind=Kind.DELETE, target=target, window_ms=WINDOW_MS)
    return replace(change, as_moderator=as_moderator)


def react(target: int, emoji: str = "👍", *, on: bool = True, user: str = "u_ann", key: str | None = None) -> Draft:
    return replace(draft("", user=user, key=key), kind=Kind.REACTION, target=target, emoji=emoji, on=on)


async def read(log: Log, room: str = "lobby") -> list[Record]:
    return await log.read(Range(room, after=0, limit=100))


async def refusal(log: Log, change: Draft) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        await append(log, change)
    return caught.value.reason


async def reactions(log: Log) -> int:
    """The number of reactions that the log keeps."""
    if isinstance(log, MemoryLog):
        return sum(map(len, (log._room("lobby").reacted or {}).values()))
    assert isinstance(log, DatabaseLog)
    ((count,),) = await log.ask_tables(lambda tables: tables.run("SELECT count(*) FROM reactions"))
    return int(count)


def without_alters(outcome: Stored | LogError) -> Record:
    assert isinstance(outcome, Stored)
    return replace(outcome.record, alters=(), empties=0)


async def test_an_edit_is_a_record_and_changes_the_message(log: Log, clock: Clock, news: list[list[Record]]) -> None:
    message = (await append(log, draft("helo"))).record
    clock.ms += 5_000
    stored = await append(log, edit(1, "hello"))
    shown = replace(message, text="hello", state=MessageState(edited=clock.ms, edit=2))
    expected = Record("lobby", 2, clock.ms, "u_ann", "U_Ann", "hello", Kind.EDIT, 1, alters=(shown,))
    assert stored == Stored(expected, fresh=True)
    assert news == [[message], [expected]]
    assert await read(log) == [shown, replace(expected, alters=())]


async def test_only_the_last_edit_has_a_text(log: Log, news: list[list[Record]]) -> None:
    await append(log, draft("secret one"))
    await append(log, edit(1, "secret two"))
    await append(log, edit(1, "nothing"))
    assert texts(await read(log)) == ["nothing", "", "nothing"]
    [told] = news[-1]
    assert [(altered.offset, altered.text) for altered in told.alters] == [(1, "nothing")]
    assert told.empties == 2


async def test_a_deletion_removes_the_text_and_all_its_edits_and_reactions(log: Log, news: list[list[Record]]) -> None:
    await append(log, replace(draft("secret"), mentions=("u_bob",)))
    await append(log, edit(1, "secret too"))
    await append(log, react(1, user="u_bob"))
    stored = await append(log, delete(1))
    assert (stored.record.offset, stored.record.kind, stored.record.target, stored.record.text) == (
        4, Kind.DELETE, 1, "",
    )  # fmt: skip
    assert await reactions(log) == 0
    records = await read(log)
    assert texts(records) == [""] * 4
    assert (records[0].state, records[0].mentions) == (MessageState(deleted=True), ())
    assert (news[-1][0].alters, news[-1][0].empties) == ((records[0],), 2)
    assert await log.head("lobby") == Head(1, 4)


async def test_a_group_removes_so_much_text_at_most(
    log: Log, news: list[list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside forty authors who deleted the longest texts, a publish took half a second: 64 were one commit."""
    if isinstance(log, MemoryLog):
        return  # it has no index
    monkeypatch.setattr(changes, "MAX_GROUP_TEXT", 10)
    for _ in range(4):
        await append(log, draft("sixteen"))
    news.clear()
    drafts = [edit(1, "one"), delete(2), edit(1, "two"), delete(3, key="k"), draft("hi"), react(4), delete(3, key="k")]
    outcomes = await submit_all(log, drafts)
    assert [[record.text or record.kind.name for record in group] for group in news] == [
        ["one", "DELETE", "hi", "REACTION"], ["two", "DELETE"],
    ]  # fmt: skip
    assert [without_alters(one).offset for one in outcomes] == [5, 6, 9, 10, 7, 8, 10]
    assert texts(await read(log))[:4] == ["two", "", "", "sixteen"]


async def test_reactions_are_counted_one_for_each_user_and_emoji(log: Log) -> None:
    await append(log, draft())
    counts = [
        (await append(log, change)).record.reaction
        for change in (
            react(1), react(1, user="u_bob"), react(1, "🎉"), react(1, on=False), react(1, "🎉", on=False),
        )
    ]  # fmt: skip
    assert counts == [
        Reaction("👍", True, 1), Reaction("👍", True, 2), Reaction("🎉", True, 1), Reaction("👍", False, 1),
        Reaction("🎉", False, 0),
    ]  # fmt: skip
    records = await read(log)
    assert records[0].state == MessageState(reactions=(("👍", 1),))
    assert [record.reaction for record in records[1:]] == counts
    again = await submit_all(log, [react(1, on=False, user="u_bob"), react(1, user="u_bob")])
    assert [isinstance(one, Stored) and one.fresh for one in again] == [True, True], "in one group"
    await append(log, react(1, on=False, user="u_bob"))
    assert (await read(log))[0].state is None, "as before the reactions"
    assert await reactions(log) == 0


async def test_a_reaction_that_changes_nothing_is_answered_and_not_stored(
    log: Log, clock: Clock, news: list[list[Record]]
) -> None:
    await fill(log, 2)
    await append(log, react(1))
    clock.ms += 1
    told = len(news)
    for change, count in ((react(1), 1), (react(1, on=False, user="u_bob"), 1), (react(2, "🎉", on=False), 0)):
        record = Record(
            "lobby", 3, START_MS, change.user_id, change.user_name, "", Kind.REACTION, change.target,
            reaction=Reaction(change.emoji, change.on, count),
        )  # fmt: skip
        assert await append(log, change) == Stored(record, fresh=False)
    assert len(news) == told
    assert await log.head("lobby") == Head(1, 3)


async def test_a_refused_change_fails_alone(log: Log, clock: Clock) -> None:
    """A refusal concerns one draft: the others in its group are stored."""
    await fill(log, 3)
    await append(log, react(2))
    await append(log, delete(3))
    refused = {
        RefusalReason.MISSING: [
            edit(9, "x"), edit(4, "an edit of a reaction"), delete(0), delete(1 << 52), react(9),
            replace(edit(1, "x", key="k"), room="elsewhere"), replace(react(1), room="elsewhere"),
            replace(draft(), target=9), replace(draft(room="elsewhere"), target=1),
            replace(delete(99, as_moderator=True), is_blind=True),
        ],
        RefusalReason.DELETED: [
            edit(3, "x"), delete(3), delete(3, as_moderator=True), react(3), replace(edit(3, "x"), is_blind=True),
        ],
        RefusalReason.NOT_AUTHOR: [
            edit(1, "x", user="u_bob"), replace(edit(1, "x", user="u_bob"), as_moderator=True), delete(1, user="u_bob"),
            replace(edit(99, "x"), is_blind=True), replace(delete(3, user="u_bob"), is_blind=True),
        ],
        RefusalReason.TOO_LATE: [replace(edit(1, "x"), window_ms=0), replace(delete(1), window_ms=0)],
    }  # fmt: skip
    for reason, drafts in refused.items():
        assert {await refusal(log, one) for one in drafts} == {reason}
        outcomes = await submit_all(log, [draft("before"), *drafts, draft("behind")])
        assert [type(outcome) for outcome in outcomes] == [Stored, *[Refused] * len(drafts), Stored]
        assert {outcome.reason for outcome in outcomes if isinstance(outcome, Refused)} == {reason}
    assert texts(await read(log)) == ["1", "2", "", "", "", *["before", "behind"] * 4]
    assert await log.head("elsewhere") == Head(1, 0)
    assert [summary.room for summary in await log.rooms(10)] == ["lobby"]
    if isinstance(log, DatabaseLog):
        rooms = await log.ask_tables(lambda tables: tables.run("SELECT name FROM rooms"))
        assert rooms == [("lobby",)], "a refusal makes no room"
    statistics = log.statistics()
    assert statistics.failures == 0
    clock.ms += WINDOW_MS
    assert await refusal(log, edit(1, "x")) is RefusalReason.TOO_LATE
    assert await refusal(log, delete(1)) is RefusalReason.TOO_LATE
    clock.ms -= 2 * WINDOW_MS  # to before the message
    assert await refusal(log, replace(edit(1, "x"), window_ms=0)) is RefusalReason.TOO_LATE, "authors never may"
    assert (await append(log, delete(1, user="u_eve", as_moderator=True))).fresh


async def test_no_target_is_in_another_room(log: Log) -> None:
    """A place in SQLite's table is made of the room's id and the offset."""
    for room in "ab":
        await append(log, draft(room=room))
    for room, target in (("a", 1 + OFFSETS), ("b", 1 - OFFSETS)):
        assert await refusal(log, replace(delete(target), room=room)) is RefusalReason.MISSING


async def test_the_different_emoji_of_a_message_are_limited(log: Log) -> None:
    await append(log, draft())
    emoji = [chr(0x1F600 + number) for number in range(MAX_EMOJI + 1)]
    outcomes = await submit_all(log, [react(1, one) for one in emoji])
    assert [type(outcome) for outcome in outcomes] == [Stored] * MAX_EMOJI + [Refused]
    assert await refusal(log, react(1, emoji[-1], user="u_bob")) is RefusalReason.TOO_MANY_EMOJI
    assert (await append(log, react(1, emoji[0], user="u_bob"))).record.reaction == Reaction(emoji[0], True, 2)
    await append(log, react(1, emoji[1], on=False))
    assert (await append(log, react(1, emoji[-1]))).fresh


async def test_the_reactions_of_a_message_are_limited(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion removes all of them in one step."""
    monkeypatch.setattr(changes, "MAX_REACTIONS", 3)
    await append(log, draft())
    users = ["u_ann", "u_bob", "u_eve", "u_dan"]
    outcomes = await submit_all(log, [react(1, user=user) for user in users])
    assert [type(outcome) for outcome in outcomes] == [Stored] * 3 + [Refused]
    assert await refusal(log, react(1, "\U0001f600", user="u_ann")) is RefusalReason.TOO_MANY_REACTIONS
    assert not (await append(log, react(1, user="u_ann"))).fresh, "the reaction exists already"
    assert not (await append(log, react(1, user="u_dan", on=False))).fresh, "there is none to take away"
    await append(log, react(1, user="u_ann", on=False))
    assert (await append(log, react(1, user="u_dan"))).fresh


async def test_replies_and_mentions_are_kept_with_the_message(log: Log, news: list[list[Record]]) -> None:
    question = (await append(log, replace(draft("a question"), mentions=("u_cid",)))).record
    reply = (await append(log, replace(draft("an answer"), target=1, mentions=("u_bob", "u_é")))).record
    assert (reply.kind, reply.target, reply.mentions, reply.alters) == (Kind.MESSAGE, 1, ("u_bob", "u_é"), ())
    assert (question.mentions, await read(log)) == (("u_cid",), [question, reply])
    assert news[-1] == [reply]
    await append(log, delete(1))
    assert (await append(log, replace(draft("late"), target=1))).fresh, "a reply to a deleted message is stored"
    assert await refusal(log, replace(draft(), target=3)) is RefusalReason.MISSING, "a deletion is no target"


async def test_all_in_one_group_happen_in_offset_order(log: Log) -> None:
    """Each draft finds its target as the drafts before it in the group have left it."""
    drafts: Sequence[Draft] = (
        draft("one"), edit(1, "two"), edit(1, "three"), react(1), react(1, on=False), react(1, "🎉"), delete(1),
        edit(1, "four"), replace(draft("reply"), target=1), delete(9), draft("five"), edit(9, "six"), react(9),
    )  # fmt: skip
    outcomes = await submit_all(log, drafts)
    assert [outcome.reason if isinstance(outcome, Refused) else None for outcome in outcomes] == [
        *[None] * 7, RefusalReason.DELETED, None, RefusalReason.MISSING, *[None] * 3,
    ]  # fmt: skip
    records = await read(log)
    assert offsets(records) == list(range(1, 12))
    assert texts(records) == [""] * 7 + ["reply", "six", "six", ""]
    assert records[0].state == MessageState(deleted=True)
    assert records[8].state == MessageState(edited=records[9].time, edit=10, reactions=(("👍", 1),))


async def test_a_key_is_used_once_for_any_kind_of_record(log: Log, clock: Clock) -> None:
    for change in (edit(1, "new", key="k"), delete(1, key="k"), react(1, key="k")):
        room = change.kind.name.lower()
        await append(log, draft(room=room))
        first = await append(log, replace(change, room=room))
        again, other = (
            await append(log, replace(change, room=room)),
            await append(log, draft("else", room=room, key="k")),
        )
        for answer in (again, other):
            assert (answer.fresh, without_alters(answer)) == (False, without_alters(first)), room
        clock.ms += KEY_LIFETIME_MS
        assert (await append(log, draft("else", room=room, key="k"))).record.offset == 3, room


async def test_a_used_key_does_not_keep_a_deleted_text(log: Log) -> None:
    await append(log, draft("secret", key="k"))
    await append(log, delete(1))
    assert (await append(log, draft("secret", key="k"))).record.text == ""


@pytest.mark.parametrize("closed_log", ["sqlite"], indirect=True)
async def test_a_search_for_messages_among_other_records_ends_at_the_deadline_of_every_read(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its queries had that time, so it took minutes of a slow disk."""
    assert isinstance(log, DatabaseLog)
    monkeypatch.setattr(database, "SCAN_RECORDS", 1)
    monkeypatch.setattr(database, "ANSWER_DEADLINE", 0.2)
    await append(log, draft("x"))
    for on in (True, False) * 5:
        await append(log, react(1, on=on))
    original = log.queries.read

    def read(wanted: Range, connection: Any) -> Any:
        time.sleep(0.1)
        return original(wanted, connection)

    monkeypatch.setattr(log.queries, "read", read)
    with pytest.raises(LogUnavailable, match="longer than"):
        await log.read(Range("lobby", 5, messages_only=True, last=True))


async def test_messages_only_however_far_back(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """One query of a database looks at a bounded number of records."""
    monkeypatch.setattr(database, "SCAN_RECORDS", 3)
    for number in (1, 2, 3):
        await append(log, draft("x" * number))
        for on in (True, False) * number:
            await append(log, react(1, on=on))
    looked = list[int]()
    if isinstance(log, DatabaseLog):
        original = log.queries.read

        def read(wanted: Range, connection: Any) -> Any:
            low, high = bounds_of(wanted)
            looked.append(high - low + 1)
            return original(wanted, connection)

        monkeypatch.setattr(log.queries, "read", read)
    for limit, max_bytes, before, expected in (
        (5, 9, None, [1, 4, 9]), (2, 9, None, [4, 9]), (5, 5, None, [4, 9]), (5, 4, None, [9]), (5, 1, None, [9]),
        (5, 9, 9, [1, 4]), (5, 9, 8, [1, 4]), (5, 9, 4, [1]), (5, 9, 1, []), (0, 9, None, []),
        (5, 9, 1 << 50, [1, 4, 9]),
    ):  # fmt: skip
        found = await log.read(Range("lobby", limit, max_bytes=max_bytes, before=before, messages_only=True, last=True))
        assert offsets(found) == expected
    assert max(looked, default=3) == 3
    await log.retain(lambda _: (10, 0))
    assert offsets(await log.read(Range("lobby", 5, messages_only=True, last=True))) == [9]
    assert await log.read(Range("nowhere", 5, messages_only=True, last=True)) == []
    await fill(log, 9, "plain")
    assert offsets(await log.read(Range("plain", 4, messages_only=True, last=True))) == [6, 7, 8, 9]
