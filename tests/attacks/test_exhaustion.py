"""No places left: which peers are admitted, evicted or stay; after the attack everything is as before.

Attackers share an address. The healthy neighbour comes from 127.0.0.1, chats over one WebSocket, and makes a new
connection for each request: it is a member and a newcomer at once.
"""

from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio

from chatserver.net.admission import LOW_WATER
from tests.attacks.siege import CROWD, HALF_A_HEAD, PERSON, Attack, visit
from tests.support.peers import Peer, ask, chatter, connect, request
from tests.support.serving import Serving, neighbour, serving, until

pytestmark = pytest.mark.jumping_clock


async def ends_as_it_began(server: Serving) -> None:
    """Only the connection for /metrics is held, and all counts are zero."""
    await server.held(0)
    assert await server.metric("chatserver_addresses") == 1
    assert await server.metric("chatserver_members") == 0
    assert await server.metric("chatserver_faults_total") == 0


# -- a newcomer while the server is full ------------------------------------------------------------------------------


class Idle(Attack):
    """Each gets an answer and then stays idle."""

    async def stay(self, peer: Peer) -> None:
        await peer.response()
        await peer.rest()


class Reader(Attack):
    """Each asks for pages that exceed its tiny window, and reads nothing."""

    async def stay(self, peer: Peer) -> None:
        while True:  # a send that fails shows the close
            await trio.sleep(0.1)
            await peer.send(b"\r\n")


BODY = request("POST", "/rooms/lobby/messages", headers={"Content-Length": "60000"}) + b"x"
PAGES = request("GET", "/rooms/lobby/messages?limit=50&before=51") * 8


@pytest.mark.parametrize(
    ("kind", "opening", "told"),
    [
        pytest.param(Attack, HALF_A_HEAD, {503}, id="slow heads"),
        pytest.param(Attack, BODY, {503}, id="slow bodies"),
        pytest.param(Attack, b"", None, id="silent"),
        pytest.param(Idle, request("GET", "/healthz"), None, id="idle"),
        pytest.param(Reader, PAGES, None, id="slow readers"),
    ],
)
async def test_a_crowd_fills_the_server_and_newcomers_get_in(
    kind: type[Attack], opening: bytes, told: set[int] | None
) -> None:
    async with serving(total=40) as server:
        async with chatter(server.address) as author:
            for _ in range(50 if kind is Reader else 0):
                await author.ask("publish", room="lobby", text="x" * 4000)
        attack = kind(server.address, opening, receive_buffer=2048 if kind is Reader else 0)
        async with attack.of(80), AsyncExitStack() as stack:
            await until(lambda: server.closes("evicted"), bool)
            # Only now: at first all readers wait for the log, and a peer that waits for the server is not evicted.
            await stack.enter_async_context(neighbour(server))
            for number in range(1, 11):
                stays = await stack.enter_async_context(chatter(server.address, source=PERSON.format(number)))
                assert (await stays.ask("publish", room="lobby", text="hello"))["type"] == "ack"
            assert await server.closes("evicted") >= 10
        await ends_as_it_began(server)
        if told is not None:
            assert {answer.status for answer in attack.told} == told, "clients within a request, and refused clients"


# -- connections that stay --------------------------------------------------------------------------------------------


async def test_a_person_who_types_is_not_evicted_by_a_crowd() -> None:
    """60 attackers return again and again for 4 s, and 10 newcomers come as well."""
    async with (
        serving(total=40) as server,
        neighbour(server),
        connect(server.address, source=PERSON.format(99)) as typist,
        Attack(server.address).of(60),
    ):
        await typist.send(b"G")
        await until(lambda: server.closes("evicted"), bool)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(typist.drip, b"ET /healthz HTTP/1.1\r\nHost: t\r\n\r\n", pause=0.12))
            for number in range(1, 11):
                await visit(server.address, PERSON.format(number))
                await trio.sleep(0.2)
        assert (await typist.response()).status == 200


async def test_members_are_never_evicted() -> None:
    """Clients that wait for a message are not evicted either: newcomers are refused with a time to return."""
    async with serving(total=10) as server, AsyncExitStack() as stack:
        poll, events = [await stack.enter_async_context(connect(server.address, source=CROWD)) for _ in range(2)]
        await poll.send(request("GET", "/rooms/elsewhere/messages?wait=60&after=0"))
        await events.send(request("GET", "/rooms/lobby/events"))
        await events.head()
        members = [await stack.enter_async_context(chatter(server.address, source=CROWD)) for _ in range(8)]
        for member in members:
            await member.ask("join", room="lobby")
        times = set()
        for number in range(1, 31):
            async with connect(server.address, source=PERSON.format(number)) as newcomer:
                answer = await newcomer.request("GET", "/healthz")
                assert (answer.status, answer.error) == (503, "full")
                assert await newcomer.rest() == b""
                times.add(int(answer.headers["retry-after"]))
        assert len(times) > 1, "not all at the same moment"
        assert times <= set(range(2, 10))
        ack = await members[0].ask("publish", room="lobby", text="still here")
        for member in members:
            assert (await member.next("message"))["offset"] == ack["offset"]
        assert b"still here" in await events.until(b"still here")


async def test_networks_that_open_all_the_rooms_they_may_leave_some_for_a_newcomer() -> None:
    most = 300
    async with (
        serving(max_rooms=most, max_empty_rooms=most, max_rooms_per_connection=most) as server,
        AsyncExitStack() as stack,
    ):
        joined = []
        for number in range(1, 21):  # with a fixed share eight took all
            greedy = await stack.enter_async_context(chatter(server.address, source=f"127.0.1.{number}"))
            each = 0
            while (refused := await greedy.ask("join", room=f"room-{number}-{each}"))["type"] == "joined":
                each += 1
            assert (refused["code"], refused["retry_after"] > 0) == ("unavailable", True)
            joined.append(each)
        assert sum(joined) < most
        page = await ask(server.address, "GET", "/rooms/new/messages?wait=5&after=0", source="127.0.1.1")
        assert (page.status, page.error, int(page.headers["retry-after"]) > 0) == (503, "unavailable", True)
        async with chatter(server.address, source=PERSON.format(1)) as friend:
            assert (await friend.ask("publish", room="new", text="to be read"))["type"] == "ack"
            assert (await friend.ask("join", room="new"))["messages"][0]["text"] == "to be read"
            assert (await friend.ask("join", room="another"))["type"] == "joined"
            assert (await friend.ask("join", room="room-1-1"))["type"] == "joined"


# -- places run short -------------------------------------------------------------------------------------------------


async def test_idle_connections_are_evicted_before_the_last_place_is_taken() -> None:
    """From the high to the low water mark, once a second; members and clients that wait for a message stay.

    Two places above the high water mark are left for the requests of the test, so no newcomer evicts a connection.
    """
    total, waiting, idle = 80, 8, 69
    async with serving(total=total) as server, neighbour(server), AsyncExitStack() as stack:
        polls = [await stack.enter_async_context(connect(server.address, source=CROWD)) for _ in range(waiting)]
        for poll in polls:
            await poll.send(request("GET", "/rooms/r/messages?after=0&wait=60"))
        await server.in_phase("held", waiting)
        people = [await stack.enter_async_context(connect(server.address, source=CROWD)) for _ in range(idle)]
        for peer in people:
            await peer.send(request("GET", "/healthz"))
        await until(lambda: server.closes("evicted"), lambda found: found >= 2)
        await until(lambda: server.metric("chatserver_connections"), lambda held: held <= total * LOW_WATER + 2)
        assert await server.metric("chatserver_reclaimed_total") >= 2
        assert await server.metric("chatserver_connections", phase="held") == waiting
        await ask(server.address, "POST", "/rooms/r/messages", b"hi")
        for poll in polls:
            assert (await poll.response()).json["messages"][0]["text"] == "hi"
