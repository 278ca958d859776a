"""What the interactive mode tells about rooms as a whole."""

from functools import partial

from chatserver.client.stream import parse_target
from chatserver.terminal.identity import kept_cookie
from tests.client.fake import FakeServer
from tests.support.peers import ask, publish
from tests.support.serving import serving, until
from tests.terminal.commanded import terminal


async def test_unread_messages_that_are_not_shown_are_told(server: FakeServer) -> None:
    """Of 3,000 messages the last 50 stood below the line of the new ones, as if they were all."""
    server.elsewhere = (200, b'{"rooms": {"lobby": {"read": 1, "unread": 3000}, "read-long-ago": {"read": 1}}}')
    untold = "3,000 unread in lobby; the latest 50 follow, /older shows those before"
    async with terminal(server, until=untold) as person:
        person.type("/join rea\t")  # was completed only if it was one of the 200 rooms written to last
        await person.until("/join read-long-ago")
        person.type("\x15")


async def test_what_was_read_just_before_leaving_is_not_new_at_the_next_start() -> None:
    """The read marker is sent every three seconds, and was not sent for the last ones."""
    async with serving() as real:
        server = FakeServer(port=real.address.port)  # for its address
        async with terminal(server) as person:
            await publish(real.address, "lobby", "one")
            await person.until("one\r\n")
            cookie = {"Cookie": kept_cookie(parse_target(server.url), "")}
            ask_unread = partial(ask, real.address, "GET", "/unread", headers=cookie)
            await until(ask_unread, lambda answer: answer.json["rooms"].get("lobby", {}).get("read") == 1)
            await publish(real.address, "lobby", "two")
            await person.until("two\r\n")
        async with terminal(server) as person:
            assert "─── new" not in await person.until("two\r\n")
            await publish(real.address, "ops", "one")
            await ask(real.address, "PUT", "/rooms/ops/read", {"offset": 1}, headers=cookie)
            await publish(real.address, "ops", "two")
            await person.enter("/rooms", "ops: 2 messages and changes, 0 here, 1 unread")
            await person.enter("/join ops", "two\r\n")
            await person.enter("/leave", "left ops")
            await person.enter("/rooms", "ops: 2 messages and changes, 0 here\x1b[0m\r\n")  # nothing is unread there


async def test_rooms_with_mentions_come_first_then_other_unread_ones() -> None:
    """Of two thousand rooms with forty mentions the list showed none: it ended after the forty written to last."""
    async with serving() as real:
        server = FakeServer(port=real.address.port)  # for its address
        async with terminal(server, "--name", "Ann") as person:
            cookie = {"Cookie": kept_cookie(parse_target(server.url), "Ann")}
            me = (await ask(real.address, "GET", "/session", headers=cookie)).json["user"]["id"]
            for room, mentions in (("called", [me]), ("news", []), ("old", [])):
                await publish(real.address, room, "one")
                await ask(real.address, "PUT", f"/rooms/{room}/read", {"offset": 1}, headers=cookie)
                if room != "old":
                    body = {"text": "two", "mentions": mentions}
                    await ask(real.address, "POST", f"/rooms/{room}/messages", body)
            person.type("/rooms\r")
            told = await person.until("old: 1 message")
            assert told.index("called: ") < told.index("news: ")


async def test_a_room_in_which_a_bot_edits_shows_its_messages() -> None:
    """A bot had written its answer piece by piece: the latest 50 records were edits, and the room looked empty."""
    async with serving() as real:
        await publish(real.address, "lobby", "a question")
        await publish(real.address, "lobby", "…")
        for number in range(60):
            edited = await ask(real.address, "PATCH", "/rooms/lobby/messages/2", {"text": f"answer {number}"})
            assert edited.status == 200
        async with terminal(FakeServer(port=real.address.port)) as person:  # for its address
            await person.until("a question\r\n")
            await person.until("answer 59")
            await person.enter("/search !!!", "· no word in it: no letter and no digit")
