"""A client meets a server whose answers come in any valid form, break off at any byte, and ask it to come back later.

Over each transport each message is delivered once and in order, each acknowledged text is in the log, every wait ends,
and no exception is raised but the documented one.
"""

import random
from contextlib import suppress

import trio
from hypothesis import given
from hypothesis import strategies as st

from chatserver.client import Ack, Backoff, Chat, Gap, Message, TransportName, Unavailable, connect
from tests.client.listener import TRANSPORTS
from tests.client.rough import Plan, RoughServer
from tests.support.clock import run_at_once
from tests.support.examples import new_examples

TEXTS = 8  # of each of the two users
LAST = "the last one"
PATIENCE = 60.0  # s after which the last text is said, by when few faults are left
LONG = 5000.0  # s; a server may ask for five minutes several times
MOST_CONNECTIONS = 1000  # in that time; without a pause between attempts there are more


class Story:
    """A user who writes and reads, and another who writes, while the server does what its plan says."""

    def __init__(self, server: RoughServer, transport: TransportName, *, restarts: bool) -> None:
        self.server = server
        self.transport: TransportName = transport
        self.restarts = restarts
        self.acks: dict[str, Ack] = {}
        self.seen: list[Message | Gap] = []

    async def happen(self) -> None:
        backoff = Backoff(jitter=random.Random(1).random)
        with trio.fail_after(LONG):
            async with (
                self.server.running(),
                connect("server", transport=self.transport, backoff=backoff) as chat,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._write, chat)
                nursery.start_soon(self._read, chat)
                await self._others()

    async def _write(self, chat: Chat) -> None:
        for number in range(TEXTS):
            text = f"mine {number}"
            with suppress(Unavailable):
                self.acks[text] = await chat.publish("lobby", text)

    async def _read(self, chat: Chat) -> None:
        async for event in chat.join("lobby", latest=50).events():
            if isinstance(event, Message | Gap):
                self.seen.append(event)
                if isinstance(event, Message) and event.text == LAST:
                    return

    async def _others(self) -> None:
        for number in range(TEXTS):
            await trio.sleep(self.server.plan.pick(30))
            self.server.say(f"theirs {number}")
            if self.restarts and number == TEXTS // 2:
                self.server.begin_anew("e2")
        await trio.sleep(PATIENCE)
        self.server.say(LAST)

    def check(self) -> None:
        before: tuple[str, int] | None = None
        for event in self.seen:
            if isinstance(event, Gap):
                assert self.restarts, "nothing is lost"
                before = None
                continue
            epoch = event.cursor.partition("-")[0]
            assert before in (None, (epoch, event.offset - 1)), "once and in order"
            before = (epoch, event.offset)
        log = {record["cursor"]: record["text"] for record in self.server.log}
        for text, ack in self.acks.items():
            if ack.cursor.startswith(self.server.epoch):
                assert log[ack.cursor] == text
        mine = [text for text in log.values() if text.startswith("mine")]
        assert len(mine) == len(set(mine)), "each text once"
        assert self.server.opened < MOST_CONNECTIONS


@new_examples(27)
@given(st.sampled_from(TRANSPORTS), st.booleans(), st.lists(st.integers(0, 65535), max_size=120))
def test_once_and_in_order_over_any_wire(transport: TransportName, restarts: bool, decisions: list[int]) -> None:
    story = Story(RoughServer(Plan(decisions)), transport, restarts=restarts)
    run_at_once(story.happen, clock=None, instruments=[])
    story.check()
