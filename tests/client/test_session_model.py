# Invariant tested: whatever a server drops, repeats or skips, and whenever the connection dies, each message of the
# log is delivered exactly once and in order, and each text published is in the log exactly once, in order.
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chatserver.client import requests, wire
from chatserver.client.events import Gap
from chatserver.client.session import Session
from tests.client.fake import Log
from tests.support.examples import examples


class World:
    """A log, a session, and frames on their way to it; hypothesis decides what happens next."""

    def __init__(self) -> None:
        self.session = Session()
        self.session.join("lobby", latest=50)
        self.server = Log()
        self.log = self.server.log
        self.asked: list[dict[str, Any]] = []  # requests of the session without an answer
        self.delivered: list[int] = []
        self.published: list[str] = []
        self.now = 0.0
        self.session.opened()

    def give(self, frame: dict[str, Any]) -> None:
        for event in self.session.receive(wire.decode(json.dumps(frame)), self.now):
            assert not isinstance(event, Gap), "no message is lost here"
            if isinstance(event, wire.Record):
                self.delivered.append(event.offset)
        self.collect()

    def collect(self) -> None:
        self.asked += [json.loads(msgspec.json.encode(request)) for request in self.session.outgoing(self.now)]

    # possible events

    def say(self, _: int) -> None:
        self.server.append("somebody else's")

    def publish(self, _: int) -> None:
        text = f"mine {len(self.published)}"
        self.published.append(text)
        self.session.ask(requests.Publish(room="lobby", text=text))
        self.collect()

    def push(self, back: int) -> None:
        """Push one of the latest messages, possibly again or without those before it."""
        if back < len(self.log):
            self.give({"type": "message", **self.log[-1 - back]})

    def gap(self, back: int) -> None:
        if back < len(self.log):
            self.give({"type": "gap", "room": "lobby", "after": "e1-0", "until": self.log[-1 - back]["cursor"]})

    def reconnect(self, _: int) -> None:
        self.asked.clear()
        self.session.opened()
        self.collect()

    def answer(self, limit: int) -> None:
        """Answer the oldest request with a page of up to `limit` messages, or refuse it for now."""
        self.collect()
        if not self.asked:
            return
        request = self.asked.pop(0)
        refusal = {"type": "error", "id": request["id"], "code": "unavailable", "message": "", "retry_after": 1.0}
        self.give(self.server.answer(request, limit=limit) if limit else refusal)

    def lose_answer(self, _: int) -> None:
        """The server stores a text and dies before its answer."""
        self.collect()
        if self.asked and self.asked[0]["type"] == "publish":
            self.server.answer(self.asked[0], limit=0)
            self.reconnect(0)

    def pause(self, _: int) -> None:
        """The reader is slow for a while."""
        self.session.pause("lobby")

    def resume(self, _: int) -> None:
        self.session.resume("lobby")
        self.collect()

    def wait(self, _: int) -> None:
        self.now += 1.0
        self.collect()

    def until_idle(self) -> None:
        """Let an honest server answer everything and push the last message."""
        self.resume(0)
        for _ in range(10 * (len(self.log) + len(self.published)) + 10):
            self.wait(0)
            self.answer(5)
        self.server.append("the end")
        self.push(0)
        for _ in range(10 * len(self.log)):
            self.wait(0)
            self.answer(5)


W = World
ACTIONS = [W.say, W.publish, W.push, W.gap, W.reconnect, W.answer, W.answer, W.lose_answer, W.wait, W.pause, W.resume]


@examples(60)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 4)), min_size=20, max_size=60))
def test_once_and_in_order(story: list[tuple[Any, int]]) -> None:
    world = World()
    for action, number in story:
        action(world, number)
    world.until_idle()
    first = world.delivered[0]
    assert world.delivered == list(range(first, len(world.log) + 1))
    assert [message["text"] for message in world.log if message["text"].startswith("mine")] == world.published
    world.reconnect(0)
    assert [request["type"] for request in world.asked] == ["join"], "every text is acknowledged"
