"""The cap on connections, and other limits that look like it."""

import pytest
import trio
from trio.testing import MockClock

from loadgen.fingerprint.found import Finding, Found, NoneSeen
from loadgen.fingerprint.probes.served import per_address
from loadgen.fingerprint.site import Options, Site
from loadgen.net import target
from tests.loadgen.fingerprint.plant import Plant
from tests.loadgen.fingerprint.planted import planted
from tests.support.certificates import server_context

SERVED = Found(value=1, how="200")


@pytest.mark.parametrize(
    ("plant", "connections", "expected", "others"),
    [
        (Plant(per_address=37), 60, Found(value=37, how="503, FIN"), SERVED),
        (Plant(per_address=37), 37, NoneSeen(looked=37), SERVED),
        (Plant(per_address=37, tls=server_context()), 60, Found(value=37, how="bytes that are no TLS, FIN"), SERVED),
        (Plant(resets=True), 60, Found(value=0, how="RST"), Found(value=0, how="reset")),
        (Plant(reset_connection=31), 60, NoneSeen(looked=59, how="1 turned away"), SERVED),  # which was a cap
        # waitress accepts a hundred, and its kernel more: with 600 open nobody was served, and that was only lenient
        (Plant(at_once=30), 60, NoneSeen(looked=60), Found(value=0, how="no answer in time")),
    ],
)
async def test_a_cap_on_an_address(
    plant: Plant, connections: int, expected: Finding, others: Finding, autojump_clock: MockClock
) -> None:
    async with planted(plant) as server:
        site = Site(server.target, Options(connections=connections))
        assert (await per_address(site), site.beside_crowd) == (expected, others)


async def test_a_server_that_listens_no_more_has_a_cap(autojump_clock: MockClock) -> None:
    held: list[trio.SocketStream] = []
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=64)
    site = Site(target.find(f"http://127.0.0.1:{listener.socket.getsockname()[1]}"), Options(connections=60))

    async def serve() -> None:
        async with listener:
            while len(held) < 20:
                held.append(await listener.accept())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        finding = await per_address(site)
    assert (finding, site.beside_crowd) == (
        Found(value=20, how="connection refused"),
        Found(value=0, how="connection refused"),
    )
    for stream in held:
        await stream.aclose()


async def test_a_short_deadline_is_no_cap(autojump_clock: MockClock) -> None:
    """The first of many had been ended when the last came: that was the cap."""
    async with planted(Plant(head_total=0.7)) as server:
        finding = await per_address(Site(server.target, Options(connections=450)))
    assert isinstance(finding, NoneSeen)
    assert "ended later" in finding.how


async def test_a_full_backlog_is_no_cap(autojump_clock: MockClock) -> None:
    """A connect that timed out was once taken for one that was refused, and an idle listener for a harsh cap."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(1)  # and nobody accepts
        where = target.find(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finding = await per_address(Site(where, Options(connections=60)))
    assert isinstance(finding, NoneSeen)
    assert finding.how == "no more in 6 s"
    assert finding.looked < 60
