"""Messages before those that the terminal client shows when it enters a room."""

from typing import cast

from chatserver.client.chat import Chat
from chatserver.client.wire import Message, Page, Reaction, Record, User
from chatserver.terminal.older import PAGE, Older
from tests.client.fake import FakeServer
from tests.support.peers import publish
from tests.support.serving import serving
from tests.terminal.commanded import terminal

ANN, TIME = User("u_a", "Ann"), "2026-11-20T12:00:00Z"


def message(offset: int, epoch: str = "e1") -> Message:
    return Message("lobby", offset, f"{epoch}-{offset}", ANN, TIME, "hi")


class History:
    """A room of one log, with a reaction after every message, in pages of three records at most."""

    def __init__(self, *, first: int = 1) -> None:
        self.kept = range(first, 13)
        self.asked: list[str] = []
        self.limits: list[int] = []

    async def history(self, room: str, *, before: str, limit: int) -> Page:
        self.asked.append(before)
        self.limits.append(limit)
        epoch, _, offset = before.partition("-")
        page = [self.record(room, at) for at in self.kept if at < int(offset)][-min(limit, 3) :]
        return Page("", epoch == "e1", page)

    def record(self, room: str, offset: int) -> Record:
        if offset % 2:
            return message(offset)
        return Reaction(room, offset, f"e1-{offset}", ANN, TIME, offset - 1, "👍")


async def older(log: History, first: Message | None, *most: int) -> list[tuple[list[int], str]]:
    """Read backwards from a message. Returns the offsets and words of each time."""
    reader = Older(cast("Chat", log))
    if first is not None:
        reader.take(first)
        reader.take(message(13))
    answers = [await reader.read("lobby", count) for count in most]
    return [([each.offset for each in messages], words) for words, messages in answers]


async def test_a_room_is_read_backwards_to_its_beginning() -> None:
    assert await older(History(), message(12), 1, 3, 9, 9) == [
        ([11], "1 older message"),
        ([5, 7, 9], "3 older messages"),
        ([1, 3], "2 older messages; this is the beginning of lobby"),
        ([], "this is the beginning of lobby"),
    ]
    assert await older(History(), None, 9) == [([], "this is the beginning of lobby")]


async def test_no_more_is_asked_for_than_wanted_unless_some_of_it_were_changes() -> None:
    """For five messages 200 records were fetched."""
    log = History()
    await older(log, message(12), 1, 3)
    assert log.limits == [1, 3, PAGE]


async def test_what_retention_has_removed_is_told() -> None:
    assert await older(History(first=8), message(12), 9, 9) == [
        ([9, 11], "2 older messages; messages before these are gone"),
        ([], "messages before these are gone"),
    ]


async def test_a_new_log_is_not_taken_for_what_was_before_the_old_one() -> None:
    """The server answers with its latest messages then, which follow by themselves."""
    log = History()
    reader = Older(cast("Chat", log))
    reader.take(message(7, "e0"))
    assert await reader.read("lobby", 9) == ("messages before these are gone", [])
    reader.forget("lobby")
    reader.take(message(3))
    assert [each.offset for each in (await reader.read("lobby", 9))[1]] == [1]
    assert log.asked == ["e0-7", "e1-3"]


async def test_a_person_reads_back() -> None:
    """Nothing before the latest 50 messages could be read."""
    async with serving() as real:
        for number in range(1, 61):
            await publish(real.address, "lobby", f"message {number}.")
        async with terminal(FakeServer(port=real.address.port)) as person:  # for its address
            await person.until("message 60.")
            await person.enter("/older 3", "3 older messages")
            shown = await person.until("end of the older messages")
            assert [f"message {number}." in shown for number in (7, 8, 9, 10, 11)] == [False, True, True, True, False]
            await person.enter("/older", "7 older messages; this is the beginning of lobby")
            await person.until("end of the older messages")
            await person.enter("/reply #1 yes", "↳ #1 ")
            await person.enter("/react tada", "put 🎉 on #61 (1)")
            await person.enter("/join ops", "in ops, ")
            await person.enter("/older", "this is the beginning of ops")
