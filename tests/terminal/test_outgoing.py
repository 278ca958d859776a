"""What was typed, on its way to the server."""

from functools import partial
from unittest import mock

import trio
from trio.testing import wait_all_tasks_blocked

from chatserver.terminal.outgoing import Outgoing


async def test_the_texts_of_a_room_are_sent_in_order_and_nothing_is_kept_of_the_room() -> None:
    """Each room in which the user had written once kept a task and a channel until the end of the program."""
    done: list[str] = []

    async def do(what: str) -> None:
        await trio.lowlevel.checkpoint()
        done.append(what)

    async with trio.open_nursery() as nursery:
        outgoing = Outgoing(mock.Mock(), nursery, mock.Mock())
        for first in (1, 3):
            for room in ("lobby", "ops"):
                outgoing.say(room, partial(do, f"{room} {first}"))
                outgoing.say(room, partial(do, f"{room} {first + 1}"))
                outgoing.command(room, partial(do, "command"))
            assert dict(outgoing.unsent) == {"lobby": 2, "ops": 2}
            await outgoing.all_sent()
            await wait_all_tasks_blocked()
            assert (dict(outgoing.unsent), nursery.child_tasks) == ({}, frozenset())
    assert [each for each in done if "lobby" in each] == ["lobby 1", "lobby 2", "lobby 3", "lobby 4"]
    assert done.count("command") == 4
