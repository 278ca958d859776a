"""`chatserver chat` in a pseudo-terminal, as a person uses it."""

import signal
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio

from chatserver.client.stream import parse_target
from chatserver.settings.rooms import Audience, RoomPolicy
from chatserver.terminal.identity import kept_cookie
from chatserver.terminal.outgoing import TYPING_EVERY
from tests.client.fake import ME, ZED, FakeServer, message
from tests.support.peers import ask, publish
from tests.support.serving import eventually, serving, until
from tests.terminal.commanded import Terminal, chat, terminal, texts


@pytest.fixture
async def person(server: FakeServer) -> AsyncIterator[Terminal]:
    """A person in the room, who leaves at the end of the block."""
    async with terminal(server) as person:
        yield person


async def test_a_person_talks_and_leaves(server: FakeServer) -> None:
    async with terminal(server) as person:
        server.errors = [{"code": "unavailable", "message": "not now", "retry_after": 0.01}]
        person.type("hello there\r")
        assert "not now" not in await person.until("15:17\x1b[0m"), "it is sent by itself"
        await person.until("hello there\r\n")
        await person.until("\r \x1b[J\rlobby> ")  # it is acknowledged
        person.type("half a line")
        assert "\x1b[2J" not in await person.until("half a line")
        await server.say("an interruption")
        # The unfinished line is drawn again, and the day only once.
        assert "2026" not in await person.until("an interruption\r\nlobby> half a line")
        person.type("\f")
        await person.until("\x1b[H\x1b[2J\r \x1b[J\rlobby> half a line")
        person.type("\x1b[D")
        await person.until("\rlobby> half a lin")  # the terminal knows where that ends
        await person.enter("\x05\x15/bogus", "no such command")
        await person.enter("//slash", "/slash\r\n")
        long = "a few words " * 7 + "end"
        await server.say(long)
        await person.until("a few\r\n       words")  # it is not cut within a word
        await person.enter("/quit", "\x1b[?1004l")  # the terminal no longer tells its focus
    assert texts(server) == ["hello there", "an interruption", "/slash", long]


async def test_typing_is_sent_and_sent_again_after_a_message(server: FakeServer, person: Terminal) -> None:
    person.type("/wh")
    await person.until("/wh")
    await person.enter("o", "in lobby: Me")
    assert server.typed == 0
    person.type("h")
    await eventually(lambda: server.typed == 1)
    await person.enter("i", "hi\r\n")
    await person.until("\r \x1b[J\rlobby> ")  # it is acknowledged
    began = trio.current_time()
    person.type("th")
    await eventually(lambda: server.typed == 2)
    person.type("e")
    await person.until("the")
    assert server.typed == 2 or trio.current_time() > began + TYPING_EVERY, "at most once in three seconds"


async def test_a_person_pastes_a_block_and_takes_a_line_back(server: FakeServer) -> None:
    async with terminal(server) as person:
        person.type("\x1b[200~two\rlines\x1b[201~")
        await person.until("two⏎lines")
        await person.enter("", "       lines\r\n")
        await person.until("\r \x1b[J\rlobby> ")  # it is acknowledged, and nothing else is drawn but what we type
        person.type("never said")
        await person.until("never said")
        person.process.send_signal(signal.SIGINT)
        await person.until("\r \x1b[J\rlobby> ")
        person.type("said\r")
    assert texts(server) == ["two\nlines", "said"]


async def test_a_person_lists_rooms_and_people(server: FakeServer, person: Terminal) -> None:
    """A list of rooms that does not come delays no other command."""
    server.elsewhere = 503, b'{"error": {"code": "unavailable", "message": "not now"}}'
    await person.enter("/help", "/react [#N] EMOJI")
    await person.enter("/help who", "/who [NAME]: list who is here")
    await person.enter("/who", "3 in lobby: Me, Zed and 1 more")
    person.type("/who @ze\r")  # moderators name users by their ids
    await person.until("Zed is u_z")
    await person.enter("/who Nobody", "nobody with the name Nobody is known")
    await person.enter("/join ops", "in ops, 1 here")
    await person.until("ops> ")
    await server.say("over here")
    await person.until("lobby│")
    await server.say("", type="delete", target=1)
    await person.until("· lobby│Zed deleted #1")
    server.errors = [{"code": "bad_room", "message": "no such room"}]
    await person.enter("/join Nowhere!", "the server says: nowhere!: no such room")
    await person.enter("/who", "3 in ops")
    await person.enter("/leave #lobby", "left lobby")
    await person.enter("/leave", "left ops")
    await person.until("no room> ")
    for line in ("nobody hears this", "/who", "/delete #1", "/leave"):
        await person.enter(line, "you are in no room; /join ROOM")
    server.errors = [{"code": "bad_room", "message": "no such room"}]
    await person.enter("/join Nowhere!", "the server says: nowhere!: no such room")
    await person.until("no room> ")
    server.elsewhere = 200, b'{"rooms": [{"room": "den", "cursor": "e1-1", "messages": 1, "members": 1}]}'
    await person.enter("/rooms", "den: 1 message, 1 here")
    person.type("/join d\t")
    await person.until("/join den ")
    server.elsewhere = 200, b'{"rooms": []}'
    # as for a user who is banned from the only one
    await person.enter("\x15/rooms", "there is no room that you may read")
    person.type("/join d\tx")
    await person.until("/join dx")  # an earlier list does not count
    await eventually(lambda: len(server.asked) == 6)  # the server hears of the leave a moment later
    assert server.asked == [*[("members", "lobby")] * 3, ("members", "ops"), ("leave", "lobby"), ("leave", "ops")]


async def test_tab_behind_leave_offers_the_rooms_that_one_is_in(server: FakeServer, person: Terminal) -> None:
    server.elsewhere = 200, b'{"rooms": [{"room": "den", "cursor": "e1-1", "messages": 1, "members": 1}]}'
    await person.enter("/rooms", "den: 1 message, 1 here")
    person.type("/leave \t")
    await person.until("/leave lobby ")


async def test_a_person_changes_messages(server: FakeServer, person: Terminal) -> None:
    await server.say("first\x1b[2J words")
    await person.until("#1")
    await person.enter("/reply yes, @Z\t indeed", "↳ #1 Zed: first\\x1b[2J words")
    await person.until("yes, @Zed  indeed\r\n")
    await person.until("\r \x1b[J\rlobby> ")  # it is acknowledged
    person.type("/edit better\r/react :ta\t\r")  # executed in order, though both are typed at once
    await person.until("Me edited #2: better\x1b[0m\r\n")
    await person.until("Me put 🎉 on #2 (1)")
    await person.enter("/react #1 -+1", "Me took 👍 off #1 (1)")
    await person.enter("/react #1 -+1", "you have not put 👍 there")
    await person.enter("/react #2 tada", "you have already put 🎉 there")
    await person.enter("/me waves", "waves\r\n")
    await person.enter("/delete #1", "Me deleted #1")
    await person.enter("/reply #1 what was it?", "↳ #1 Zed: (deleted)")
    await person.enter("/edit", "/edit [#N] TEXT: change a message")
    await person.enter("/delete it", "'it' is too much here. /delete [#N]: ")
    await person.enter("/etc/passwd is a file", "/etc/passwd is a file\r\n")
    person.type("/search words\r")  # the fake server has no HTTP
    await person.until("there is nothing here")
    reply, edit = server.log[1:3]
    assert (reply["reply_to"], reply["mentions"]) == (1, ["u_z"])
    assert (edit["type"], edit["target"]) == ("edit", 2)


async def test_a_reply_in_a_new_log_goes_to_a_message_of_that(server: FakeServer, person: Terminal) -> None:
    """The messages of the old log have numbers that are those of others now, or of none."""
    await server.say("old")
    await server.say("older than what follows")
    await person.until("what follows")
    server.epoch, server.log[:] = "e2", [message(1, "anew", epoch="e2", user=ZED)]
    await server.close_all(1012)
    await person.until("gone for good")
    await person.until("anew\r\n")
    await person.enter("/reply yes", "↳ #1 Zed: anew")


async def test_a_person_who_was_kicked_may_return(server: FakeServer, person: Terminal) -> None:
    """After a kick the room must not count as entered; otherwise `/join` does nothing."""
    await server.tell(type="error", room="lobby", code="forbidden", message="out")
    await person.until("the server says: lobby: out")
    await person.until("no room> ")
    await person.enter("/join lobby", "in lobby, 1 here")
    await person.until("lobby> ")
    assert len(server.joins) == 2


async def test_a_text_for_a_room_is_not_said_in_another_after_a_kick(server: FakeServer, person: Terminal) -> None:
    """The prompt went on with another room, perhaps just before Enter."""
    await person.enter("/join ops", "in ops, 1 here")
    person.type("half a secret")
    await person.until("ops> half a secret")
    await server.tell(type="error", room="ops", code="forbidden", message="out")
    await person.until("no room> half a secret")
    await person.enter("", "you are in no room; /join ROOM")
    await person.enter("/join lobby", "lobby> ")
    assert server.wrote == []


async def test_text_typed_after_a_join_goes_to_that_room(server: FakeServer, person: Terminal) -> None:
    """This holds before the server has answered the join; a change still goes to the room before."""
    await person.enter("one", "one\r\n")
    await person.until("\r \x1b[J\rlobby> ")  # it is acknowledged, so the edit means it
    await person.enter("/edit better\r/join ops\rtwo", "in ops, 1 here")
    await eventually(lambda: len(server.wrote) == 3)
    assert sorted(server.wrote) == [("edit", "lobby"), ("publish", "lobby"), ("publish", "ops")]


async def test_a_room_in_slow_mode_delays_no_other(server: FakeServer) -> None:
    """A text for another room waited behind the one that the slow room had postponed, and no line named that room."""
    async with terminal(server, code=128 + signal.SIGTERM) as person:
        await person.enter("/join ops", "in ops, 1 here")
        server.errors = [{"code": "rate_limited", "message": "too many messages", "retry_after": 3600}]
        await person.enter("waits", "ops│too many messages; it will be sent by itself")
        await person.enter("/react #1 tada\r/who", "3 in ops")  # the reaction waits as well, to keep its place
        await person.enter("/join lobby\rhello", "hello\r\n")
        await person.until("lobby (1 to send)> ")
        server.errors = [{"code": "forbidden", "message": "sign in"}]
        await person.enter("refused", "not sent to lobby: sign in")
        person.process.send_signal(signal.SIGTERM)
        await person.until("1 not acknowledged and perhaps not sent")


async def test_a_change_without_a_number_never_goes_to_an_older_message_than_the_last(server: FakeServer) -> None:
    """While the last text waited, as in slow mode, `/edit` and `/delete` took the message before it."""
    async with terminal(server, code=128 + signal.SIGTERM) as person:
        await person.enter("precious", "precious\r\n")
        await person.until("\r \x1b[J\rlobby> ")  # it is acknowledged
        server.errors = [{"code": "rate_limited", "message": "too many messages", "retry_after": 3600}]
        await person.enter("with a typo", "too many messages; it will be sent by itself")
        for line in ("/edit corrected", "/delete"):
            await person.enter(line, "your last message is not sent yet: for an earlier one, name its number, #N")
        assert server.wrote == [("publish", "lobby")]
        person.process.send_signal(signal.SIGTERM)


async def test_what_is_typed_before_the_first_connection_waits_for_it() -> None:
    """The prompt names the room, so a text is for that. Commands were refused."""
    server = FakeServer()
    async with terminal(server, until="; reconnecting") as person:
        await person.enter("early", "lobby (offline, 1 to send)> ")
        await person.enter("/leave", "there is no connection")  # we are in no room yet
        await person.enter("/who\r/join ops", "ops (offline, 1 to send)> ")
        async with server.running():
            if "early\r\n" not in await person.until("in ops, 1 here"):  # they come in either order
                await person.until("early\r\n")
            await person.enter("/quit", "\x1b[?1004l")
    assert texts(server) == ["early"]
    assert ("members", "lobby") in server.asked


async def test_a_new_name_is_kept_for_the_next_start() -> None:
    """Each new cookie is stored; otherwise the next start has the name from before, and other terminals keep it."""
    async with serving() as real:
        server = FakeServer(port=real.address.port)  # for its address
        async with terminal(server) as person, terminal(server) as other:
            await person.enter("/nick Zoe", "connected as Zoe")
            await other.until("connected as Zoe")
            await other.enter("hello", "Zoe\x1b[0m: hello")
        async with terminal(server) as person:
            await person.enter("/who", "1 in lobby: Zoe")


async def test_what_came_meanwhile_is_below_a_line_and_what_is_seen_is_read() -> None:
    async with serving() as real:
        server = FakeServer(port=real.address.port)
        async with terminal(server) as person:
            cookie = {"Cookie": kept_cookie(parse_target(server.url), "")}

            async def expect_read(offset: int) -> None:
                unread = partial(ask, real.address, "GET", "/unread", headers=cookie)
                await until(unread, lambda answer: answer.json["rooms"].get("lobby", {}).get("read") == offset)

            for offset, text in enumerate(("hello", "behind"), 1):
                await publish(real.address, "lobby", text)
                await person.until(f"{text}\r\n")
                if text == "hello":
                    await expect_read(offset)
                    person.type("\x1b[Oa")
                    await person.until("lobby> a")
            person.type("\x1b[I")
            await expect_read(2)
        for text in ("missed", "too"):
            await publish(real.address, "lobby", text)
        async with terminal(server) as person:
            for text, is_divided in (("hello", False), ("behind", False), ("missed", True), ("too", False)):
                assert ("─── new" in await person.until(f"{text}\r\n")) == is_divided


async def test_changes_are_told_unless_the_message_came_in_its_present_state(server: FakeServer) -> None:
    """After a reconnect they are told as well: the message itself does not come again."""
    server.append("better", ZED)["edited"] = True
    server.append("", ZED).update(type="edit", target=1, text="better")
    async with terminal(server) as person:
        await server.say("news")
        assert "edited #1" not in await person.until("news")
        server.append("", ZED).update(type="edit", target=1, text="best")
        await server.close_all(1012)
        await person.until("back in lobby")
        await person.until("edited #1: best")


async def test_a_client_that_enters_no_room_ends(server: FakeServer) -> None:
    server.errors = [{"code": "forbidden", "message": "members only"}]
    async with terminal(server, until="connecting to", code=1) as person:
        await person.until("members only")


async def test_two_names_on_one_machine_are_two_people() -> None:
    """Each name has its own cookie, so that the two are not one user."""
    async with serving() as real:
        server = FakeServer(port=real.address.port)
        async with terminal(server, "--name", "Ann") as ann:
            assert (await chat(server, b"hi\n", "--send", "--name", "CI")).returncode == 0
            await ann.until("CI\x1b[0m: hi")
            await ann.enter("/who", "1 in lobby: Ann")
        assert b"CI" not in (await chat(server, b"hi\n", "--send")).stderr


@pytest.mark.parametrize("code", [0, 128 + signal.SIGTERM])
async def test_a_terminal_that_cannot_move_the_cursor_gets_plain_lines(server: FakeServer, code: int) -> None:
    """There only Ctrl-C ended it: it went on after Ctrl-D, as with a pipe that has ended. And /help was published.

    Times with milliseconds took 25 of the 40 characters of a braille line. Behind spaces that filled a row, a message
    showed what looked like another user's line.
    """
    async with terminal(server, code=code, term="dumb") as person:
        await server.say("hello")
        shown = await person.until("Zed: hello")
        assert "\x1b" not in shown
        assert shown.endswith("20 Nov 15:17 ")
        await server.say(f"what?{' ' * 60}20 Nov 15:17 Boss: hi")
        assert (await person.until("Boss: hi")).endswith("Zed: what?\r\n  20 Nov 15:17 ")
        await person.enter("/help", "there are no commands without a prompt; Ctrl-D leaves, and //help says /help")
        await person.enter("//help", "Me: /help")
        if code:
            person.process.terminate()


async def test_arrivals_and_departures_are_one_line_until_a_message(server: FakeServer, person: Terminal) -> None:
    for name, members in ("Ann", 2), ("Bob", 3):
        joined = [{"id": f"u_{name}", "name": name}]
        await server.tell(type="presence", room="lobby", joined=joined, left=[], members=members)
        before = await person.until(f"{name} joined · {members} here")
    assert before.rpartition("\x1b[1A")[2].endswith("· Ann, "), "in place of the first line"
    await server.say("hello")
    await person.until("hello")
    await server.tell(type="presence", room="lobby", joined=[], left=joined, members=2)
    assert "\x1b[1A" not in await person.until("· Bob left · 2 here")


async def test_rooms_are_listed_with_their_number_of_records_and_one_without_the_right_to_write_says_so() -> None:
    """The server counts edits, deletions and reactions as well, so the number is not called messages."""
    async with serving(rooms=(("news", RoomPolicy(write=Audience.MODERATORS)),)) as real:
        server = FakeServer(port=real.address.port)
        async with terminal(server) as person:
            await person.enter("hello", "hello\r\n")
            await person.enter("/rooms", "* lobby: 1 message, 1 here")
            await person.enter("/react tada", "put 🎉 on #1")
            await person.enter("/rooms", "* lobby: 2 messages and changes, 1 here")
            await person.enter("/join news", "you may not write in news")


async def test_a_line_marks_what_came_since_the_window_lost_focus_and_a_bell_calls(
    server: FakeServer, person: Terminal
) -> None:  # fmt: skip
    async def expect(text: str, *, line: bool, bell: bool, **said: Any) -> None:
        await server.say(text, **said)
        shown = await person.until(text)
        assert ("─── new" in shown, "\a" in shown) == (line, bell)

    await expect("@Me, seen", line=False, bell=False)
    for typed in ("v", "w"):
        person.type(f"\x1b[O{typed}")
        await person.until(typed)
        await expect("from my phone", line=False, bell=False, user={**ME, "name": "Me on the phone"})
        await expect("are you there?", line=True, bell=True, mentions=["u_me"])
        await expect("hello, @Melanie?", line=False, bell=False)
        await expect("hello, @Me?", line=False, bell=True)
        person.type("\x1b[Iz")
        await person.until("z")


async def test_who_types_is_shown_in_that_room_until_the_message(server: FakeServer, person: Terminal) -> None:
    await server.say("the day is shown once")
    await person.until("once\r\n")
    for user in ({**ME, "name": "Me at another client"}, ZED):
        await server.tell(type="typing", room="lobby", user=user)
    assert "Me at" not in await person.until("lobby (Zed typing)> ")
    await server.say("hi")
    assert (await person.until("lobby> ")).count("typing") == 1
    await server.tell(type="typing", room="lobby", user=ZED)
    await person.until("lobby (Zed typing)> ")
    person.type("/join ops\r")
    assert "ops (" not in await person.until("ops> ")
    await server.tell(type="typing", room="lobby", user={"id": "u_ann", "name": "Ann"})
    await server.tell(type="typing", room="ops", user=ZED)
    await person.until("ops (Zed typing)> ")


async def test_a_person_sees_that_the_connection_is_gone_and_back(server: FakeServer, person: Terminal) -> None:
    await server.close_all(1012, "restart")
    await person.until("restart (1012); reconnecting")
    await person.until("back in lobby")
    server.refusals, server.retry_after = [503] * 50, "3600"
    await server.close_all(1012, "restart")
    await person.until("restart (1012); reconnecting")
    await person.until("lobby (offline)> ")
    await person.until("the server answered 503")
    await person.until("Enter tries now")
    await person.enter("/who", "there is no connection")
    person.type("\r")
    await eventually(lambda: len(server.refusals) < 49)
    server.refusals.clear()

    def is_back() -> bool:
        person.type("\r")  # one that is typed during an attempt does nothing
        return bool(server.connections)

    await eventually(is_back)
    assert "503" not in await person.until("back in lobby"), "the reason is shown once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
async def test_the_terminal_is_restored_after_a_signal(server: FakeServer, number: signal.Signals) -> None:
    r"""After SIGTERM too: test_a_room_in_slow_mode_delays_no_other. Ctrl-\ left one without echo."""
    async with terminal(server, code=128 + number) as person:
        person.process.send_signal(number)


async def test_a_stopped_client_leaves_the_terminal_to_the_shell(server: FakeServer) -> None:
    """The terminal must not go on to report its focus, which a shell takes for keys.

    A client that is continued at the moment in which it leaves must not take the terminal again.
    """

    async def keep_continuing(person: Terminal) -> None:
        while True:  # one signal may arrive before it has stopped
            person.process.send_signal(signal.SIGCONT)
            await trio.sleep(0.001)

    async with terminal(server) as person, trio.open_nursery() as nursery:
        person.type("half")
        await person.until("half")
        person.process.send_signal(signal.SIGTSTP)
        await person.until("\x1b[?1004l")
        nursery.start_soon(keep_continuing, person)
        await person.until("\x1b[?1004h")
        await person.until("lobby> half")
        person.type("\x15\x04")
        await person.until("\x1b[?1004l")
        nursery.cancel_scope.cancel()


async def test_the_terminal_is_restored_when_the_server_ends_the_client(server: FakeServer) -> None:
    async with terminal(server, code=1) as person:
        await server.close_all(4500, "banned")
        await person.until("closed the connection: banned (4500)")
