"""Changes by other processes: no deleted text is told or kept, whatever order records, hints and reads come in."""

from collections.abc import Sequence

import pytest
import trio

from chatserver.log.interface import Draft, Kind, Range, Record
from tests.support.chatting import Chatting, change
from tests.support.groups import append


def note_encoded(it: Chatting) -> list[Record]:
    """The records that are encoded from now on."""
    encoded: list[Record] = []
    encode = it.encoder.message

    def message(record: Record) -> bytes:
        encoded.append(record)
        return encode(record)

    it.encoder.message = message  # type: ignore[method-assign]
    return encoded


@pytest.mark.parametrize(("kind", "text"), [(Kind.EDIT, "corrected"), (Kind.DELETE, ""), (Kind.REACTION, "")])
async def test_a_change_elsewhere_is_made_in_the_ring(shared: Chatting, kind: Kind, text: str) -> None:
    encoded = note_encoded(shared)
    await shared.publish("lobby", "secret", "other")
    await shared.members(1)
    await shared.hinted(shared.elsewhere(change(kind, 1, text)))
    assert (encoded[-1].offset, encoded[-1].text) == (1, "secret" if kind is Kind.REACTION else text)
    assert encoded[-1].state is not None
    [late] = await shared.members(1, back=9)
    assert (b"secret" in late.wire) == (kind is Kind.REACTION)


async def test_a_deletion_holds_before_earlier_records_of_others_are_read(shared: Chatting) -> None:
    """After its acknowledgement the ring must not give the text to a member, though the log is not read yet."""
    await shared.publish("lobby", "secret", "other")
    [ann] = await shared.members(1)
    shared.log.delay = 1.0
    shared.elsewhere_said("lobby", "three")
    await append(shared.log, change(Kind.DELETE, 1))
    [late] = await shared.members(1, back=9)
    assert (late.reached("lobby"), b"secret" in late.wire) == (2, False)
    await trio.sleep(9.0)
    assert (late.reached("lobby"), ann.reached("lobby")) == (4, 4)


async def test_a_reaction_removed_elsewhere_is_removed_in_the_ring(shared: Chatting) -> None:
    await shared.publish("lobby", "one", "two")
    await append(shared.log, change(Kind.REACTION, 2))
    await shared.members(1)
    encoded = note_encoded(shared)
    await shared.hinted(shared.elsewhere(change(Kind.REACTION, 2, on=False)))
    assert [(record.offset, record.state) for record in encoded] == [(4, None), (2, None)]


async def test_cached_search_results_are_dropped_after_a_change_elsewhere(
    shared: Chatting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also results with messages that have left the ring."""
    forgotten: list[Record] = []
    monkeypatch.setattr(shared.hub.follower, "_note_altered", forgotten.extend)
    await shared.publish("lobby", "one", "two")
    await shared.members(1)
    shared.hub.rooms["lobby"].cut(0)
    await shared.hinted(shared.elsewhere_said("lobby", "three"))
    assert forgotten == []
    await shared.hinted(shared.elsewhere(change(Kind.DELETE, 1)))
    assert [(record.room, record.kind) for record in forgotten] == [("lobby", Kind.DELETE)]


@pytest.mark.parametrize("then", [Kind.EDIT, Kind.DELETE])
async def test_the_text_of_an_earlier_edit_is_removed_as_well(shared: Chatting, then: Kind) -> None:
    await shared.publish("lobby", "one")
    await append(shared.log, change(Kind.EDIT, 1, "password"))
    await shared.members(1)
    await shared.hinted(shared.elsewhere(change(then, 1, "" if then is Kind.DELETE else "better")))
    [late] = await shared.members(1, back=9)
    assert late.offsets("lobby") == [1, 2, 3]
    assert b"password" not in late.wire


@pytest.mark.parametrize(
    ("kind", "targets", "reads"),
    [
        (Kind.REACTION, [1], 2), (Kind.REACTION, range(1, 41), 9), (Kind.EDIT, [40], 2), (Kind.EDIT, [38], 2),
        (Kind.EDIT, [1], 9),
    ],
)  # fmt: skip
async def test_changes_read_a_part_of_the_ring(
    shared: Chatting, monkeypatch: pytest.MonkeyPatch, kind: Kind, targets: Sequence[int], reads: int
) -> None:
    """For a few reactions their messages, else what follows the first message; nothing that has left the ring."""
    monkeypatch.setattr("chatserver.chat.follower.MAX_READ", 5)
    await shared.publish("lobby", *["hi"] * 40)
    await shared.members(1)
    for is_held, expected in ((True, reads), (False, 1)):
        shared.log.reads = 0
        text = "" if kind is Kind.REACTION else "ho"
        last = shared.elsewhere(*(change(kind, target, text, on=is_held) for target in targets))
        await shared.hinted(last)
        assert (shared.hub.rooms["lobby"].last, shared.log.reads) == (last, expected), is_held
        shared.hub.rooms["lobby"].cut(0)


async def test_a_running_read_does_not_return_a_text_deleted_elsewhere(shared: Chatting) -> None:
    """The read precedes the deletion and its answer follows it, so its client would show the text for ever."""
    await shared.publish("lobby", "secret", *("text",) * 70)
    await shared.members(1)
    room = shared.hub.rooms["lobby"]
    room.cut(0)  # so that nothing of it is in the ring
    async with trio.open_nursery() as nursery:
        shared.log.delay = 1.0
        found = shared.reading(nursery, limit=3)
        await trio.sleep(1.5)
        shared.log.delay = 0.1
        shared.hub.follower.on_hints({"lobby": shared.elsewhere(change(Kind.DELETE, 1))})
    assert found == ["", "text", "text"]
    assert room.last == 72


@pytest.mark.parametrize("rooms", [["lobby"], []], ids=["page", "search in all rooms"])
async def test_results_that_wait_lose_a_text_deleted_elsewhere(shared: Chatting, rooms: list[str]) -> None:
    """No read was under way, so that a client that had heard of the deletion got the text from a poll of many rooms."""
    await shared.publish("lobby", "secret", *("text",) * 70)
    await shared.members(1)
    shared.hub.rooms["lobby"].cut(0)  # so that nothing of it is in the ring
    page = await shared.hub.reader.read(Range("lobby", after=0, limit=2))
    with shared.hub.reader.altered_meanwhile(*rooms) as meanwhile:
        await shared.hinted(shared.elsewhere(change(Kind.DELETE, 1)))
        assert [record.text for record in meanwhile.up_to_date(page)] == ["", "text"]


async def test_our_own_changes_are_newer_than_a_running_read(shared: Chatting) -> None:
    """The log is read, then one of the messages is deleted here, and then the page arrives."""
    ann, late = shared.peer(), shared.peer()
    await shared.join(ann, "lobby")
    shared.log.delay = 0.1
    shared.hub.follower.on_hints({"lobby": shared.elsewhere(Draft("lobby", "u_1", "Ann", "secret"))})
    await trio.sleep(0.15)
    await append(shared.log, change(Kind.DELETE, 1))
    await trio.sleep(0.5)
    await shared.join(late, "lobby", back=9)
    assert late.offsets("lobby") == [1, 2]
    assert b"secret" not in late.wire
    assert b"secret" not in ann.wire


async def test_a_text_deleted_here_is_in_no_read_though_an_older_read_ends_later(shared: Chatting) -> None:
    """The read of an edited message is on its way, the deletion is told, and then the read arrives."""
    await shared.publish("lobby", "one")
    await shared.members(1)
    shared.log.delay = 1.0
    edited = shared.log.commit_elsewhere([change(Kind.EDIT, 1, "two")])
    shared.hub.follower.on_hints({"lobby": 2})
    async with trio.open_nursery() as nursery:
        await trio.sleep(2.4)
        found = shared.reading(nursery, limit=1)  # reads at 3.4
        await trio.sleep(0.1)
        shared.hub.news(edited)
        await trio.sleep(1.0)  # the edited message is read at 3, and the answer arrives at 4
        shared.hub.news(shared.log.commit_elsewhere([change(Kind.DELETE, 1)]))
        assert shared.hub.rooms["lobby"].last == 3
    assert found == [""]


# -- late news of our own ---------------------------------------------------------------------------------------------


async def test_late_news_of_an_edit_does_not_bring_back_a_text_deleted_elsewhere(shared: Chatting) -> None:
    """The edit was read with the deletion after it, and then its own news arrived: late joiners were sent the text."""
    await shared.publish("lobby", "one")
    await shared.members(1)
    ours = shared.log.commit_elsewhere([change(Kind.EDIT, 1, "secret")])
    await shared.hinted(shared.elsewhere(change(Kind.DELETE, 1)))
    with shared.hub.reader.altered_meanwhile("lobby") as held:
        shared.hub.news(ours)
    assert not held.altered
    [late] = await shared.members(1, back=9)
    assert late.offsets("lobby") == [1, 2, 3]
    assert b"secret" not in late.wire


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("when", [0.5, 1.5, 2.5, 3.5, 4.5])
async def test_late_news_of_a_reaction_does_not_hide_its_removal_elsewhere(
    shared: Chatting, when: float, *, is_loaded: bool
) -> None:
    """The news comes while the log is read, which has the reaction and its removal already."""
    encoded = note_encoded(shared)
    shared.elsewhere_said("lobby", "one")
    if is_loaded:
        await shared.members(1)
    shared.elsewhere_said("lobby", "two")
    ours = shared.log.commit_elsewhere([change(Kind.REACTION, 1)])
    last = shared.elsewhere(change(Kind.REACTION, 1, on=False))
    shared.log.delay = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.members, 1)
        shared.hub.follower.on_hints({"lobby": last})
        await trio.sleep(when)
        shared.hub.news(ours)
    await trio.sleep(9.0)
    assert shared.hub.rooms["lobby"].last == 4
    assert [record.state for record in encoded if record.offset == 1][-1] is None
