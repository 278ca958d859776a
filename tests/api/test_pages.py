"""An answer has a bound in bytes whatever its limit, and nothing is lost by it."""

from typing import Any

import trio

from chatserver.api.pages import ANSWERS_KEPT, PAGE_BYTES
from chatserver.protocol.validation import MAX_TEXT_BYTES
from tests.support.peers import Address, ask, chatter, publish
from tests.support.serving import Serving, serving

LONG = "\n" * (MAX_TEXT_BYTES - 4)  # each is two bytes in JSON
MESSAGES = 20
#: One message more than fits is allowed if it is the only one; here several fit.
MOST = PAGE_BYTES + 1024


async def fill(address: Address, room: str, messages: int = MESSAGES) -> None:
    for number in range(1, messages + 1):
        await publish(address, room, f"{number:03} {LONG}")


async def page(address: Address, path: str) -> Any:
    answer = await ask(address, "GET", path)
    assert answer.status == 200
    assert len(answer.body) <= MOST
    return answer.json


def offsets(found: Any) -> list[int]:
    return [message["offset"] for message in found["messages"]]


async def walk_on(address: Address, room: str) -> list[int]:
    """Every offset, asked for from cursor to cursor."""
    found: list[int] = []
    after = "0"
    while not found or found[-1] < MESSAGES:
        part = await page(address, f"/rooms/{room}/messages?after={after}&limit=200")
        assert part["recovered"]
        assert 1 < len(part["messages"]) < MESSAGES
        assert part["cursor"] == part["messages"][-1]["cursor"]
        found += offsets(part)
        after = part["cursor"]
    return found


async def both_sources(server: Serving) -> list[str]:
    """A room whose messages are in a ring, and one whose messages are in the log only."""
    for room in ("ring", "log"):
        await fill(server.address, room)
    async with chatter(server.address) as friend:
        await friend.ask("join", room="ring")
        assert server.server.parts.hub.room("ring") is not None
        assert server.server.parts.hub.room("log") is None
    return ["ring", "log"]


async def test_a_page_has_a_bound_in_bytes_and_its_cursor_leads_to_the_rest() -> None:
    async with serving() as server:
        for room in await both_sources(server):
            assert await walk_on(server.address, room) == list(range(1, MESSAGES + 1))


async def test_the_latest_and_those_before_a_place_are_the_newest_that_fit() -> None:
    async with serving() as server:
        for room in await both_sources(server):
            latest = await page(server.address, f"/rooms/{room}/messages?limit=200")
            assert 1 < len(latest["messages"]) < MESSAGES
            assert offsets(latest) == list(range(offsets(latest)[0], MESSAGES + 1))
            oldest = offsets(latest)[0]
            earlier = await page(server.address, f"/rooms/{room}/messages?before={oldest}&limit=200")
            assert offsets(earlier)[-1] == oldest - 1
            assert 1 < len(earlier["messages"]) < oldest - 1


async def test_rooms_of_one_poll_share_the_bound() -> None:
    async with serving() as server:
        await fill(server.address, "a")
        await fill(server.address, "b")
        found = await page(server.address, "/poll?room=a:0&room=b:0&limit=200")
        assert [offsets(found["rooms"][room]) for room in ("a", "b")] == [[1], [1]]


async def test_a_poll_on_many_rooms_has_the_bound_of_one_answer_and_comes_round() -> None:
    """One message is over a room's share here and given all the same, but not for each of a hundred rooms: unread,
    that was 1.6 MB a connection. A room for which nothing is left keeps its place."""
    async with serving() as server:
        rooms = [f"r{number}" for number in range(10)]
        for room in rooms:
            await fill(server.address, room, 2)
        in_memory = rooms[:5]
        async with chatter(server.address) as friend:
            for room in in_memory:
                await friend.ask("join", room=room)
            cursors = dict.fromkeys(rooms, "0")
            found: dict[str, list[int]] = {room: [] for room in rooms}
            polls = 0
            while any(len(each) < 2 for each in found.values()):
                query = "&".join(f"room={room}:{cursor}" for room, cursor in cursors.items())
                answer = await ask(server.address, "GET", "/poll?wait=30&" + query)
                assert len(answer.body) < PAGE_BYTES + 2 * MAX_TEXT_BYTES + 4096
                for room, part in answer.json["rooms"].items():
                    assert part["recovered"]
                    found[room] += offsets(part)
                    cursors[room] = part["cursor"]
                polls += 1
            assert list(found.values()) == [[1, 2]] * 10
            assert 4 < polls < 10


async def test_what_does_not_fit_into_joined_follows_as_messages() -> None:
    async with serving() as server:
        for room in await both_sources(server):
            async with chatter(server.address) as friend:
                joined = await friend.ask("join", room=room, after=0)
                found = offsets(joined)
                assert 1 < len(found) < MESSAGES
                while len(found) < MESSAGES:
                    found.append((await friend.next("message"))["offset"])
                assert found == list(range(1, MESSAGES + 1))


async def test_polls_with_every_limit_do_not_fill_memory() -> None:
    async with serving() as server:
        limits = range(1, 2 * ANSWERS_KEPT + 1)
        answers: list[list[int]] = []

        async def poll(limit: int) -> None:
            answers.append(offsets(await page(server.address, f"/rooms/a/messages?after=0&wait=30&limit={limit}")))

        async with trio.open_nursery() as nursery:
            for limit in limits:
                nursery.start_soon(poll, limit)
            await server.in_phase("held", len(limits))
            await publish(server.address, "a", "hello")
        assert answers == [[1]] * len(limits)
        assert len(server.server.parts.hub.rooms["a"].cache or ()) == ANSWERS_KEPT
