"""The promise of a session, in random runs: each record once and in order, or a `Gap`, whatever happens.

The server is a model: it pushes records or skips some, answers in pages of a few, refuses for now, removes old records,
and loses the connection. The reader is slow now and then. In the end all is delivered that the server still has.
"""

import json
import math
import random
from typing import Any

import msgspec
import pytest

from chatserver.client import events, session, wire
from tests.client.fake import message
from tests.client.scripted_session import Peer, offsets
from tests.support.examples import EXPLORED

#: With 5,000 runs it finds the rare faults that tests in test_session.py tell of, with 100 the plain ones.
RUNS = EXPLORED or 100
ACTS = {"say": 12, "serve": 9, "hear": 15, "slow": 6, "quick": 2, "forget": 3, "reopen": 1}


class World:
    """A room's log (`first` to `last`), a connection with frames on their way, and a session in that room."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.first, self.last = 1, self.dice.randint(0, 5)
        self.pushed: int | None = None  # up to here, on this connection
        self.under_way: list[dict[str, Any]] = []
        self.page = self.dice.choice((1, 2, 3, 200))
        self.peer = Peer()
        self.delivered: list[int] = []
        self.gaps = 0
        self.history: list[object] = []  # for the message of a failure

    def act(self, name: str) -> None:
        self.history.append(name)
        getattr(self, name)()

    def say(self) -> None:
        self.last += self.dice.choice((1, 1, 2, 3))
        self.push()

    def push(self, *, skips: bool = True) -> None:
        while self.pushed is not None and self.pushed < self.last:
            begin = max(self.pushed, self.first - 1)
            skipped = self.dice.choice((0, 0, 0, 1, 2)) if skips else 0
            if begin == self.pushed and not skipped:
                self.pushed += 1
                self.under_way += self.dice.choice((1, 1, 1, 2)) * [{"type": "message", **message(self.pushed)}]
            else:
                after, self.pushed = self.pushed, min(begin + skipped, self.last)
                if self.pushed == self.last or self.dice.random() < 0.7:  # else the next record shows the hole
                    gap = {"after": f"e1-{after}", "until": f"e1-{self.pushed}"}
                    self.under_way.append({"type": "gap", "room": "lobby", **gap})

    def serve(self, *, refuses: bool = True) -> None:
        for sent in self.peer.session.outgoing(self.peer.now):
            request = json.loads(msgspec.json.encode(sent))
            self.under_way.append(self.answer(request, refused=refuses and self.dice.random() < 0.1))

    def answer(self, request: dict[str, Any], *, refused: bool) -> dict[str, Any]:
        if refused:
            return {"type": "error", "id": request["id"], "code": "unavailable", "message": "later", "retry_after": 1}
        after = request.get("after")
        asked = self.last - self.dice.choice((0, 1, 50)) if after is None else int(after.removeprefix("e1-"))
        begin = max(asked, self.first - 1)
        end = self.last if after is None else min(begin + self.page, self.last)
        page = {
            "id": request["id"], "room": "lobby", "cursor": f"e1-{end}", "recovered": after is None or begin == asked,
            "messages": [message(offset) for offset in range(begin + 1, end + 1)],
        }  # fmt: skip
        if request["type"] == "join":
            self.pushed = end
            return {"type": "joined", "members": 1, **page}
        return {"type": "history", **page}

    def hear(self) -> None:
        if self.under_way:
            frame = self.under_way.pop(0)
            self.history.append(frame)
            seen = self.peer.session.receive(wire.decode(json.dumps(frame)), self.peer.now)
            self.delivered += offsets(seen)
            self.gaps += sum(isinstance(event, events.Gap) for event in seen)

    def slow(self) -> None:
        self.peer.session.pause("lobby")

    def quick(self) -> None:
        self.peer.session.resume("lobby")

    def forget(self) -> None:
        self.first = min(self.first + self.dice.randint(1, 3), self.last + 1)

    def reopen(self) -> None:
        self.under_way.clear()
        self.pushed = None
        self.peer.session.opened()

    def end(self) -> None:
        """Let everything come."""
        self.act("quick")
        self.push(skips=False)
        while self.under_way or self.peer.session.next_time() < math.inf:
            self.peer.now += 10
            self.serve(refuses=False)
            self.push(skips=False)
            self.hear()


@pytest.mark.parametrize("held", [1000, 2], ids=["many are held", "few are held"])
@pytest.mark.parametrize("removes", [False, True], ids=["all is kept", "old records go"])
def test_each_record_is_delivered_once_and_in_order_or_reported_as_lost(
    monkeypatch: pytest.MonkeyPatch, *, held: int, removes: bool
) -> None:
    monkeypatch.setattr(session, "HELD_RECORDS", held)
    weights = ACTS | ({} if removes else {"forget": 0})
    for seed in range(RUNS):
        world = World(seed)
        for _ in range(3):
            for act in world.dice.choices(list(weights), list(weights.values()), k=20):
                world.act(act)
            world.end()
            got, told = world.delivered, (seed, world.history, world.delivered)
            assert got == sorted(set(got)), told
            missing = set(range(got[0], world.last + 1)).difference(got) if got else set()
            assert all(offset < world.first for offset in missing), told
            assert world.gaps >= bool(missing), told
            assert removes or not world.gaps, told
