"""A crowd at one address requests as much as it can beside one person at another: networks share the server.

Five hundred peers of one address have one share. No time is measured: the tests count the answers of the crowd between
a request of the neighbour and its answer. First come, first served, these would be all requests of the crowd; shared by
network, they are a small part.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from chatserver.edge.tasks import MAX_TASKS
from chatserver.log import open_log
from chatserver.log.interface import Draft, LogError, Stored
from tests.attacks.siege import CROWD, PERSON
from tests.support.groups import append
from tests.support.peers import Address, Chatter, Peer, chatter, connect
from tests.support.serving import Serving, eventually, serving

#: The neighbour's address, and that of a client that publishes all the time.
NEIGHBOUR, SPEAKER = PERSON.format(1), PERSON.format(2)
#: Seconds for the first answers to a crowd: 200 reads, two at a time, of a disk that takes 0.1 s for each take 10 s.
CROWD_PATIENCE = 30.0
#: Messages given to the log at a time.
BATCH = 500


async def fill(url: str, messages: Iterable[tuple[str, str]]) -> None:
    """Store messages, each a room and a text, before the server starts."""
    log = open_log(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        left = list(messages)
        while left:
            batch, left = left[:BATCH], left[BATCH:]
            answers: list[Stored | LogError] = []
            for room, text in batch:
                log.submit(Draft(room, "u_1", "Ann", text), answers.append)
            await append(log, Draft("filled", "u_1", "Ann", "behind all of these"))
            assert all(isinstance(answer, Stored) for answer in answers), answers[:1]
        nursery.cancel_scope.cancel()


class Crowd:
    """Peers of one address that repeat their requests. `bodies` has their answers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    @asynccontextmanager
    async def asking(self, server: Serving, paths: Sequence[str], *, peers: int) -> AsyncIterator[None]:
        """`peers` peers send requests during the block, which begins after two answers to each."""
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            for number in range(peers):
                peer = await stack.enter_async_context(connect(server.address, source=CROWD))
                nursery.start_soon(self._ask_for_ever, peer, paths[number % len(paths)])

            await eventually(lambda: len(self.bodies) >= 2 * peers, within=CROWD_PATIENCE)
            yield
            nursery.cancel_scope.cancel()

    async def _ask_for_ever(self, peer: Peer, path: str) -> None:
        while True:
            answer = await peer.request("GET", path)
            assert answer.status == 200, answer
            self.bodies.append(answer.body)


async def join_and_read(friend: Chatter, number: int) -> None:
    """Open an empty room and scroll back, as a client does."""
    joined = await friend.ask("join", room=f"cold-{number}")
    assert joined["type"] == "joined", joined
    assert [message["offset"] for message in joined["messages"]] == [1, 2, 3]
    page = await friend.ask("history", room=f"old-{number}", before=3)
    assert page["type"] == "history", page
    assert [message["offset"] for message in page["messages"]] == [1, 2]


#: The rooms and the rounds of the test of joins and reads.
TIMES = 2
NEIGHBOURS_ROOMS = [(f"{kind}-{number}", "hello") for kind in ("cold", "old") for number in range(TIMES)] * 3


@asynccontextmanager
async def publishing(address: Address) -> AsyncIterator[None]:
    """A client publishes one message after the other, and each is acknowledged."""

    async def speak(speaker: Chatter) -> None:
        while True:
            assert (await speaker.ask("publish", room="busy", text="hello"))["type"] == "ack"

    async with chatter(address, source=SPEAKER) as speaker, trio.open_nursery() as nursery:
        nursery.start_soon(speak, speaker)
        yield
        nursery.cancel_scope.cancel()


#: Pages of long messages, each of which is read by itself.
PAGES = [f"/rooms/r{room}/messages?before={before}&limit={limit}"
         for room in range(20) for before in range(7, 12) for limit in (5, 6)]  # fmt: skip
LONG = [(f"r{number}", "x" * 8000) for number in range(20)] * 10
#: Listing thousands of rooms is expensive, so one list serves all requests that run at the same time: MAX_TASKS.
ROOMS = [(f"r{number}", "hello") for number in range(2000)]


@pytest.mark.parametrize(
    ("stored", "paths", "peers", "most"),
    [
        pytest.param(ROOMS, ["/rooms?limit=1"], 120, 2 * TIMES * 120 // MAX_TASKS // 2, id="rooms"),
        pytest.param(LONG, PAGES, 100, 2 * TIMES * 100 // 4, id="pages"),
    ],
)
async def test_a_crowd_that_reads_the_log(
    stored: list[tuple[str, str]], paths: list[str], peers: int, most: int, tmp_path: Path
) -> None:
    """A client publishes all the time, so each query has a new result and queries can be counted.

    `most` queries of the crowd may come before the neighbour's, of which there are two each time. First come, first
    served, it is one for each peer, or for MAX_TASKS peers that ask the same: 45 to 54 and 400, where 4 to 19 and 32 to
    59 are seen.
    """
    url = f"sqlite:{tmp_path / 'chat.db'}"
    await fill(url, stored + NEIGHBOURS_ROOMS)
    crowd = Crowd()
    async with (
        serving(log=url) as server,
        chatter(server.address, source=NEIGHBOUR) as friend,
        publishing(server.address),
        crowd.asking(server, paths, peers=peers),
    ):
        looks = 0
        for number in range(TIMES):
            before = len(crowd.bodies)
            await join_and_read(friend, number)
            given = crowd.bodies[before:]
            looks += len(given if stored is LONG else set(given))
        assert looks <= most, "the neighbour has waited for the whole crowd"
