"""Slow readers, in real time: the windows and timers of the kernel do not follow a clock that jumps."""

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock

from loadgen.fingerprint.found import Failed, Finding, Found, NoneSeen, NotApplicable, Unit, describe
from loadgen.fingerprint.probes.reading import _knowing, floor, lowest, never
from loadgen.fingerprint.site import Options, Site, tried
from loadgen.net.sockets import SockDiag
from loadgen.net.target import Target
from tests.loadgen.fingerprint.plant import Plant
from tests.loadgen.fingerprint.planted import planted

#: Rates far on both sides of the planted floor: 512 bytes in each 1.5 s.
OPTIONS = Options(within=5.0, pace=0.5, read_path="/large", read_rates=(0, 64, 16_384))
FLOOR = Plant(send_stall=1.5)


async def probe(plant: Plant, **changes: float | str) -> tuple[Finding, Finding]:
    """What both find, side by side, as a fingerprint has them."""
    found: dict[str, Finding] = {}

    async def note(name: str, what: Callable[[Site], Awaitable[Finding]], site: Site) -> None:
        found[name] = await what(site)

    async with planted(plant) as server:
        options = dataclasses.replace(OPTIONS, **changes)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "floor", floor, Site(server.target, options))
            nursery.start_soon(note, "never", never, Site(server.target, options))
    return found["floor"], found["never"]


@pytest.mark.slow
async def test_a_floor_is_found_between_two_rates() -> None:
    for within in (OPTIONS.within, 15.0, 45.0):  # on a busy machine the probes may have begun when the time was over
        found, stalled = await probe(FLOOR, within=within)
        if isinstance(found, Found) and isinstance(stalled, Found):
            break
    assert isinstance(found, Found)
    assert (found.value, found.uncertainty) == (16_384, 16_384 - 64)
    assert found.how.startswith(("64 B/s: closed after", "64 B/s: RST after"))
    assert isinstance(stalled, Found)
    assert stalled.value >= 1.5 - stalled.uncertainty
    assert stalled.how in {"RST", "closed"}


@pytest.mark.parametrize(("defers", "path"), [(False, "/large"), (True, "/large"), (False, "/endless")])
async def test_a_server_that_waits_for_ever(defers: bool, path: str) -> None:
    """Apache accepts a connection with its first bytes: "the server's end is not on this machine".

    A page larger than could be read in time was "no answer in time", although remarks ask for a large one.
    """
    found, stalled = await probe(Plant(defers=defers), within=0.6, pace=0.1, read_path=path)
    assert isinstance(found, NoneSeen)
    assert found.how == "0 B/s was kept"
    assert isinstance(stalled, NoneSeen)


async def test_the_servers_socket_may_appear_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine it was not there after 50 ms: "the server's end is not on this machine"."""
    known, looks = SockDiag.closed, Counter[int]()

    def closed(diag: SockDiag, fd: int) -> bool | None:
        looks[fd] += 1
        return None if looks[fd] < 4 else known(diag, fd)

    monkeypatch.setattr(SockDiag, "closed", closed)
    _, stalled = await probe(Plant(), within=0.6, pace=0.1)
    assert isinstance(stalled, NoneSeen)


async def test_a_stall_of_our_own_hides_no_socket_of_the_server(autojump_clock: MockClock) -> None:
    def closed(_: int) -> bool | None:
        autojump_clock.jump(60.0)
        return None if diag.closed.call_count == 1 else False

    diag = Mock(closed=Mock(side_effect=closed))
    assert await _knowing(diag, Mock()) is diag


@pytest.mark.parametrize(
    ("plant", "path", "why"),
    [
        (Plant(says=b"HTTP/1.0 200 OK\r\n\r\nhello"), "/",
         "it closes after one answer of 24 B: too little to be read slowly"),
        # libwebsockets closes then, which was "never reads: 0.21 s, harsh"
        (Plant(one_by_one=True), "/",
         "it does not answer two requests that come at once; give --read-path of a large page"),
        (Plant(), "/nothing", "GET /nothing is answered 404: nothing to read"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_slowly(plant: Plant, path: str, why: str) -> None:
    async with planted(plant) as server:
        site = Site(server.target, dataclasses.replace(OPTIONS, read_path=path))
        for probe in (floor, never):
            assert await tried(partial(probe, site)) == NotApplicable(why=why)


class _Elsewhere(Target):
    """On another machine, as far as anybody asks."""

    on_loopback = False


async def test_a_server_elsewhere_is_not_taken_for_dead(autojump_clock: MockClock) -> None:
    """This kernel knows nothing of the other end, and "nothing" is what it says of one that was closed."""
    async with planted(Plant()) as server:
        where = _Elsewhere(**{each.name: getattr(server.target, each.name) for each in dataclasses.fields(Target)})
        site = Site(where, OPTIONS)
        for probe in (never, floor):
            finding = await tried(partial(probe, site))
            assert isinstance(finding, NotApplicable)
            assert "not on this machine" in finding.why


def test_the_lowest_rate_that_lives() -> None:
    dead, alive = Found(value=31.2, how="RST"), NoneSeen(looked=105)
    assert lowest({0: dead, 64: dead, 256: alive, 512: alive}) == Found(
        value=256, uncertainty=192, how="64 B/s: RST after 31.2 s"
    )
    assert lowest({0: alive, 64: NoneSeen(looked=99)}) == NoneSeen(looked=99, how="0 B/s was kept")
    # a reader at a higher rate than others was cut off, so the floor is above its rate
    assert lowest({0: dead, 64: alive, 256: dead, 512: alive}) == Found(
        value=512, uncertainty=256, how="256 B/s: RST after 31.2 s"
    )
    assert lowest({0: alive, 64: dead, 256: alive}) == Found(value=256, uncertainty=192, how="64 B/s: RST after 31.2 s")
    failed = Failed(why="no answer in time")
    assert lowest({0: dead, 64: failed, 256: alive}) == failed, "it may have lived or not"
    # "64 B/s" was said to be the slowest reader that is kept
    none_kept = lowest({0: dead, 64: dead})
    assert none_kept == Found(value=64, others=(float("inf"),), how="even 64 B/s: RST after 31.2 s")
    assert describe(none_kept, Unit.RATE) == "64 B/s or more"
    many = NotApplicable(why="so many requests")
    assert lowest({0: many, 64: alive}) == lowest({0: many, 64: many}) == lowest({0: dead, 64: many}) == many
    assert lowest({0: alive, 64: many}) == NoneSeen(looked=105, how="0 B/s was kept")
