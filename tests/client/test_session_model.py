"""session.py in random walks: each record of a room is delivered once and in order, or its loss is reported.

The server is a small model. At any moment the reader is slow, the connection is cut, records are skipped or removed, or
the log begins anew. Over HTTP, what is pushed may come before or after the answer to a request. Refusals, requests and
events in detail: test_session.py.
"""

import random
from collections import deque

import msgspec
import pytest

from chatserver.client import events, requests, session, wire
from chatserver.client.session import Session

WALKS = 1500
STEPS = 30
LATEST = 2  # records in an answer to the first join, or after a new epoch
ME = wire.User("u_me", "Me")


def place_of(cursor: str) -> tuple[int, int]:
    epoch, offset = cursor[1:].split("-")
    return int(epoch), int(offset)


class World:
    """A room, the server's side of a connection to it, and what the reader got."""

    def __init__(self, seed: int, *, by_http: bool) -> None:
        self.random = random.Random(seed)
        self.epoch, self.first, self.head = 1, 1, 0
        self.place: int | None = None  # offset up to which the connection was sent the room; None if it is not joined
        self.asked: deque[requests.Request] = deque()
        self.frames: deque[wire.Frame | wire.Record] = deque()
        #: of an event stream or a poll, which have a connection of their own
        self.pushes: deque[wire.Frame | wire.Record] = deque() if by_http else self.frames
        self.firsts: dict[int, int] = {}  # of each epoch, when it ended
        self.seen: list[tuple[int, int] | None] = []  # epochs and offsets, from the first join on; None: a gap
        self.session = Session()
        self.session.join("lobby")
        self.cut()

    # -- the server ---------------------------------------------------------------------------------------------------

    def cursor(self, offset: int) -> str:
        return f"e{self.epoch}-{offset}"

    def record(self, offset: int) -> wire.Message:
        return wire.Message("lobby", offset, self.cursor(offset), ME, "2026-11-20T12:00:00.123Z")

    def page(self, after: str | int | None, limit: int) -> tuple[int, wire.History]:
        """The end of a page, and the page."""
        epoch, start = (0, 0) if after is None else place_of(str(after))
        recovered = after is None
        if epoch == self.epoch:
            recovered = start >= self.first - 1
            start = max(start, self.first - 1)
        else:
            start = max(self.first - 1, self.head - min(limit, LATEST))
        end = min(start + limit, self.head)
        records = tuple(msgspec.Raw(msgspec.json.encode(self.record(offset))) for offset in range(start + 1, end + 1))
        return end, wire.History(self.cursor(end), recovered, records)

    def serve(self, limit: int) -> None:
        match self.asked.popleft():
            case requests.Join(id=id_, after=after):
                self.place, page = self.page(after, limit)
                self.frames.append(wire.Joined(page.cursor, page.recovered, page.messages, id_, 1))
            case requests.History(id=id_, after=after):
                self.frames.append(msgspec.structs.replace(self.page(after, limit)[1], id=id_))

    def push(self, place: int) -> None:
        if place < self.first - 1:
            self.skip(place)
            return
        self.pushes.append(self.record(place + 1))
        self.place = place + 1

    def skip(self, place: int) -> None:
        self.place = max(self.first - 1, self.random.randint(place + 1, self.head))
        self.pushes.append(wire.Skipped("lobby", self.cursor(self.place)))

    # -- what happens -------------------------------------------------------------------------------------------------

    def say(self) -> None:
        self.head += 1

    def trim(self) -> None:
        self.first = min(self.first + 1, self.head + 1)

    def anew(self) -> None:
        self.firsts[self.epoch] = self.first
        self.epoch, self.first, self.head = self.epoch + 1, 1, 0
        self.cut()

    def cut(self) -> None:
        self.place = None
        self.asked.clear()
        self.frames.clear()
        self.pushes.clear()
        self.session.opened(0.0)

    def deliver(self) -> None:
        queue = self.random.choice((self.frames, self.pushes)) or self.frames or self.pushes
        if any(isinstance(frame, wire.Joined) for frame in self.frames):
            queue = self.frames  # the stream is opened after that
        frame = queue.popleft()
        for outcome in self.session.receive(frame, 0.0):
            match outcome:
                case wire.Record(cursor=cursor):
                    self.seen.append(place_of(cursor))
                case events.Entered(resumed=False) if isinstance(frame, wire.Joined):
                    self.seen.append(place_of(frame.cursor))
                case events.Gap():
                    self.seen.append(None)

    def step(self, *, trims: bool) -> None:
        choices = [self.say, self.say, *([self.trim, self.trim, self.trim] if trims else [])]
        if self.random.random() < 0.1:
            choices += [self.cut, *([self.anew] if trims else [])]
        choices += [lambda: self.session.pause("lobby"), lambda: self.session.resume("lobby")]
        if self.place is not None and self.place < self.head:
            place = self.place
            choices += [lambda: self.push(place)] * 4 + [lambda: self.skip(place)] * 2
        choices += [lambda: self.serve(self.random.choice((1, 1, 2, 50)))] * 4 if self.asked else []
        choices += [self.deliver] * 4 if self.frames or self.pushes else []
        self.random.choice(choices)()
        self.asked.extend(self.session.outgoing(0.0, 0.0))

    def rest(self) -> None:
        """The reader reads on, and everything is answered."""
        self.session.resume("lobby")
        for _ in range(40 + 4 * self.head):
            self.asked.extend(self.session.outgoing(0.0, 0.0))
            if self.asked:
                self.serve(3)
            elif self.frames or self.pushes:
                self.deliver()
            elif self.place is not None and self.place < self.head:
                self.push(self.place)
            else:
                return
        raise AssertionError("it asks again and again")

    def check(self) -> None:
        self.firsts[self.epoch] = self.first
        lost, last = False, (1, 0)
        for number, place in enumerate(self.seen):
            if place is None:
                lost = True
                continue
            follows = number == 0 or place == (last[0], last[1] + 1)
            was_removed = place[0] > last[0] or place[1] <= self.firsts[place[0]]
            assert number == 0 or place > last, "a record came again"
            assert follows or lost, "a record is missing"
            assert follows or was_removed, "it was not lost"
            lost, last = False, place
        assert last == (self.epoch, self.head) or (lost and self.head < self.first), "the last ones are missing"


@pytest.mark.parametrize(("trims", "by_http"), [(False, False), (True, False), (True, True)])
def test_each_record_is_delivered_once_and_in_order_or_its_loss_is_reported(
    monkeypatch: pytest.MonkeyPatch, *, trims: bool, by_http: bool
) -> None:
    monkeypatch.setattr(session, "HELD_RECORDS", 2)
    for seed in range(WALKS):
        world = World(seed, by_http=by_http)
        try:
            for _ in range(STEPS):
                world.step(trims=trims)
            world.rest()
            world.check()
        except AssertionError as error:
            raise AssertionError(f"walk {seed}: {error}; {world.seen}") from error
