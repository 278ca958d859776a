"""Long-polls on one room and on many."""

from collections.abc import Sequence
from typing import Any

import pytest

from chatserver.api import polls
from chatserver.chat.log_reader import LogReader
from chatserver.chat.registry import MAX_EMPTY_OF_NETWORK
from chatserver.log.interface import Head, Range
from tests.api.asking import texts
from tests.support.peers import Answer, Peer, ask, chatter, connect, publish, request
from tests.support.serving import Serving, serving


def page_of(answer: Answer, room: str = "lobby") -> Any:
    """The page of the room, in either form of answer."""
    assert answer.status == 200, answer
    return answer.json.get("rooms", {}).get(room, answer.json)


async def test_it_waits_for_a_message_or_answers_at_once(server: Serving, peer: Peer) -> None:
    await peer.send(request("GET", "/rooms/lobby/messages?after=0&wait=20"))
    await server.in_phase("held")
    stored = await publish(server.address, "lobby", "news")
    answer = await peer.response()
    again = await peer.request("GET", "/rooms/lobby/messages?after=0&wait=3600")
    assert answer.json == again.json
    page = page_of(answer)
    assert (page["cursor"], page["recovered"], texts(page)) == (stored["cursor"], True, ["news"])
    assert answer.headers["connection"] == "keep-alive"
    for room in ("lobby", "lobby:"):
        assert texts(page_of(await peer.request("GET", f"/poll?room={room}&wait=5"))) == ["news"], "the latest"


async def test_polls_in_both_forms_at_one_place_are_answered_in_their_own(server: Serving, peer: Peer) -> None:
    async with connect(server.address) as other:
        await peer.send(request("GET", "/rooms/lobby/messages?after=0&wait=60"))
        await other.send(request("GET", "/poll?room=lobby:0&wait=60"))
        await server.in_phase("held", 2)
        await publish(server.address, "lobby", "news")
        page = (await peer.response()).json
        assert page.pop("room") == "lobby"
        assert (await other.response()).json == {"rooms": {"lobby": page}}


@pytest.mark.jumping_clock
async def test_an_empty_answer_when_the_time_is_up() -> None:
    """A `wait` over the limit is cut to it."""
    async with serving(poll_wait_max=1.0) as server, connect(server.address) as peer:
        stored = await publish(server.address, "lobby", "old")
        # each again on the same connection, from the given cursor
        for path in ["/rooms/lobby/messages?after=1&wait=600"] * 2 + ["/poll?room=lobby:1&wait=0.2"] * 2:
            page = page_of(await peer.request("GET", path))
            assert (page["cursor"], page["recovered"], texts(page)) == (stored["cursor"], True, []), path
            assert await server.metric("chatserver_held_polls") == 0


async def test_a_poll_is_limited_in_rooms_without_messages() -> None:
    """The limit does not depend on other clients, and rooms with messages do not count."""
    made_up = "&".join(f"room=mine{number}" for number in range(3))
    async with serving(max_empty_rooms=2) as server, connect(server.address) as peer:
        for number in range(3):
            await publish(server.address, f"old{number}", "hi")
        for wait in ("", "&wait=20"):
            refused = await peer.request("GET", f"/poll?{made_up}{wait}")
            assert (refused.status, refused.error) == (400, "too_many_rooms")
        assert await server.metric("chatserver_held_polls") == 0
        assert await server.metric("chatserver_rooms") == 0, "refused names make no rooms"
        few = "room=mine0&room=mine1&room=old0:1&room=old1:1&room=old2:1"
        assert (await peer.request("GET", f"/poll?{few}&wait=0.2")).status == 200
        await publish(server.address, "mine0", "hi")
        answer = await peer.request("GET", f"/poll?{made_up}&wait=20")
        assert [len(room["messages"]) for room in answer.json["rooms"].values()] == [1, 0, 0]
        # Rooms with members but without messages count for this poll as well.
        async with chatter(server.address) as one, chatter(server.address) as other:
            for number in range(3):
                await (one, one, other)[number].ask("join", room=f"room{number}")
            refused = await peer.request("GET", f"/poll?{made_up.replace('mine', 'room')}&wait=20")
            assert (refused.status, refused.error) == (400, "too_many_rooms")


@pytest.mark.parametrize("at_once", [polls.ENTERED_PER_STEP, 1])
async def test_a_poll_of_many_rooms_answers_with_all_of_them(
    server: Serving, peer: Peer, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one step, or in several."""
    monkeypatch.setattr(polls, "ENTERED_PER_STEP", at_once)
    await publish(server.address, "b", "b1")
    answer = await peer.request("GET", "/poll?room=a:0&room=b:0&room=c:0&wait=20")
    assert list(answer.json) == ["rooms"]
    assert {room: texts(page) for room, page in answer.json["rooms"].items()} == {"a": [], "b": ["b1"], "c": []}
    assert list(answer.json["rooms"]) == ["a", "b", "c"]
    assert answer.json["rooms"]["a"]["cursor"].endswith("-0")
    cursor = answer.json["rooms"]["b"]["cursor"]
    await peer.send(request("GET", f"/poll?room=a:0&room=b:{cursor}&room=c:0&wait=20"))
    await server.in_phase("held")
    await publish(server.address, "c", "c1")
    rooms = (await peer.response()).json["rooms"]
    assert {room: texts(page) for room, page in rooms.items()} == {"a": [], "b": [], "c": ["c1"]}
    assert rooms["b"]["cursor"] == cursor
    assert await server.metric("chatserver_held_polls") == 0


async def test_a_poll_reads_from_the_log_only_the_rooms_that_are_behind_the_ring(
    peer: Peer, server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read all of them: one of a hundred rooms with more news than its ring holds cost a hundred reads."""
    read, really_read = list[str](), LogReader.read

    async def noting(reader: LogReader, wanted: Range) -> Any:
        read.append(wanted.room)
        return await really_read(reader, wanted)

    monkeypatch.setattr(LogReader, "read", noting)
    async with chatter(server.address) as friend:
        for room in "abc":
            await publish(server.address, room, "old")
            await friend.ask("join", room=room)
        ring = server.server.parts.hub.rooms["b"].ring
        assert ring is not None
        ring.cut(0)
        read.clear()
        rooms = (await peer.request("GET", "/poll?room=a:0&room=b:0&room=c:1&wait=20")).json["rooms"]
    assert {room: texts(page) for room, page in rooms.items()} == {"a": ["old"], "b": ["old"], "c": []}
    assert read == ["b"]


async def test_the_rooms_of_a_poll_that_are_not_in_memory_are_looked_up_in_one_query(
    peer: Peer, server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each had a query of its own."""
    for room in "abc":
        await publish(server.address, room, "old")
    log = server.server.parts.log
    asked, heads = list[Sequence[str]](), log.heads

    async def noting(rooms: Sequence[str]) -> dict[str, Head]:
        asked.append(rooms)
        return await heads(rooms)

    monkeypatch.setattr(log, "heads", noting)
    rooms = (await peer.request("GET", "/poll?room=a:0&room=b:0&room=c:0&room=made-up:0&wait=20")).json["rooms"]
    assert [texts(page) for page in rooms.values()] == [["old"]] * 3 + [[]]
    assert asked[0] == ["a", "b", "c", "made-up"]


async def test_a_cursor_that_is_not_recovered_is_answered_at_once(server: Serving, peer: Peer) -> None:
    await publish(server.address, "lobby", "old")
    page = page_of(await peer.request("GET", "/rooms/lobby/messages?after=other-1&wait=60"))
    assert (page["recovered"], texts(page)) == (False, ["old"])
    for room in ("lobby", "empty"):
        rooms = (await peer.request("GET", f"/poll?room={room}:other-1&room=ops:0&wait=60")).json["rooms"]
        assert [page["recovered"] for page in rooms.values()] == [False, True]


async def test_malformed_polls_are_refused() -> None:
    async with serving(max_rooms_per_connection=3) as server, connect(server.address) as peer:
        for query in ["", "room=", "room=a&room=a", "room=A", "wait=5", "&".join(f"room=r{n}" for n in range(4))]:
            answer = await peer.request("GET", f"/poll?{query}")
            assert answer.status == 400
            assert answer.error in ("bad_field", "bad_room")


async def test_a_poll_may_name_as_many_rooms_as_a_connection_may_be_in() -> None:
    """Its other parameters took the last places of 200."""
    async with serving(max_rooms_per_connection=300, max_empty_rooms=300) as server, connect(server.address) as peer:
        answer = await peer.request("GET", f"/poll?wait=0&limit=1&{'&'.join(f'room=r{n}:0' for n in range(300))}")
        assert (answer.status, len(answer.json.get("rooms", ()))) == (200, 300), answer.body
        answer = await peer.request("GET", f"/poll?{'&'.join(f'room=r{n}' for n in range(301))}")
        assert (answer.status, answer.error) == (400, "bad_field"), "the limit of rooms is named"


async def test_a_poll_of_more_rooms_than_a_network_may_leave_in_memory_is_woken_by_each() -> None:
    """Those named last left memory before the poll was held in them: it was answered at its end, without their news."""
    names = [f"r{number}" for number in range(MAX_EMPTY_OF_NETWORK + 2)]
    most = len(names)
    async with (
        serving(max_rooms_per_connection=most, max_empty_rooms=most) as server,
        connect(server.address) as peer,
    ):
        await peer.send(request("GET", f"/poll?wait=60&{'&'.join(f'room={name}:0' for name in names)}"))
        await server.in_phase("held")
        await publish(server.address, names[-1], "news")
        answer = await peer.response()
    assert texts(page_of(answer, names[-1])) == ["news"]


async def test_a_held_poll_is_answered_at_once_when_another_request_follows(server: Serving, peer: Peer) -> None:
    """A client that sends another request does not wait for news; a held poll is read only to detect its FIN."""
    held = request("GET", "/rooms/lobby/messages?after=0&wait=60")
    await peer.send(held)
    await server.in_phase("held")
    await peer.send(request("GET", "/healthz") + (held + request("GET", "/rooms")) * 2)
    page = page_of(await peer.response())
    assert (page["messages"], page["recovered"]) == ([], True)
    assert (await peer.response()).json == {"status": "ok"}
    for _ in range(2):
        assert page_of(await peer.response()) == page
        assert [room["room"] for room in (await peer.response()).json["rooms"]] == ["lobby"]
    assert await server.metric("chatserver_held_polls") == 0
    await publish(server.address, "lobby", "news")
    missed = page_of(await peer.request("GET", f"/rooms/lobby/messages?after={page['cursor']}&wait=60"))
    assert texts(missed) == ["news"], "its cursor has not moved"


@pytest.mark.parametrize("path", ["/poll?room=a:0&room=b:0", "/rooms/a/messages?after=0&wait=1"])
async def test_rooms_for_which_the_memory_of_messages_has_no_place_left_are_answered(path: str) -> None:
    """Loading one exceeds the limit, for which rooms without members leave memory: among them those being loaded."""
    async with serving() as server, chatter(server.address) as friend:
        await friend.ask("join", room="full")
        for _ in range(8):
            await friend.ask("publish", room="full", text="x" * 2000)
        for room in ("a", "b"):
            await publish(server.address, room, "news")
        budget = server.server.parts.hub.budget
        budget.most = budget.used
        answer = await ask(server.address, "GET", path)
        assert texts(page_of(answer, "a")) == ["news"]
        assert not budget.over, "then the rooms with members are cut"
