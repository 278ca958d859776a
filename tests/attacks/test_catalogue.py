"""Every attack of the catalogue against the real server over real sockets, played by the load generator's personas,
with a healthy neighbour beside it who does not notice, and a newcomer who is let in. The reasons that the catalogue
names are what is counted.
"""

import contextlib
from pathlib import Path

import pytest
import trio

from loadgen.client import Client, Threat
from loadgen.personas import registry
from tests.attacks.catalogue import ROWS, SHORT, Row
from tests.loadgen.stage import playing
from tests.support.certificates import certificate
from tests.support.peers import chatter
from tests.support.serving import Serving, eventually, neighbour, serving

#: What the personas ask a held poll to wait: below the deadlines of these tests.
POLL_WAIT = 1.0


def test_every_attacker_has_a_row_and_every_row_an_attacker() -> None:
    kinds = [row.kind for row in ROWS]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == {name for name, persona in registry().items() if not persona.honest}


def test_the_generator_calls_them_what_the_catalogue_does() -> None:
    for row in ROWS:
        named = Threat.GREEDY if row.greedy else Threat.MALFORMED if row.malformed else Threat.SLOW
        assert registry()[row.kind].threat is named, row.kind


async def _newcomer(server: Serving) -> None:
    """A client that comes during the attack: writes in a room of its own, and hears it there."""
    async with chatter(server.address) as friend:
        joined = await friend.ask("join", room="newcomers")
        assert joined["type"] == "joined", joined
        ack = await friend.ask("publish", room="newcomers", text="hello")
        assert ack["type"] == "ack", ack
        assert (await friend.next("message"))["offset"] == ack["offset"]
        await friend.close()


async def _counted(server: Serving, row: Row) -> int:
    return sum([await server.closes(reason.label) for reason in row.ends])


def _skip_unless_deaf(clients: list[Client]) -> None:
    faults = clients[0].cohort.engine.own_faults
    if faults:
        pytest.skip(f"this kernel does not let a socket go deaf: {dict(faults)}")


#: These never pause, so that a clock that jumps would hardly move; under real time short limits would be a race.
RESTLESS = ("long-requests", "publish-reset")
PLAYED = [
    pytest.param(row, marks=[] if row.kind in RESTLESS else pytest.mark.jumping_clock, id=row.kind) for row in ROWS
]


@pytest.mark.parametrize("row", PLAYED)
async def test_it_ends_as_the_catalogue_says_and_the_neighbour_does_not_notice(row: Row, tmp_path: Path) -> None:
    tls = dict(zip(("tls_cert", "tls_key"), certificate(tmp_path), strict=True)) if row.over_tls else {}
    limits = {} if row.kind in RESTLESS else SHORT
    async with serving(**{**limits, **tls, **row.settings}) as server:
        authority = f"{server.address.host}:{server.address.port}"
        async with neighbour(server):
            async with playing(
                f"{'https' if row.over_tls else 'http'}://{authority}",
                row.kind,
                clients=row.clients,
                host=authority,
                poll_wait_seconds=POLL_WAIT,
            ) as play:

                async def seen() -> bool:
                    if row.needs_dark:
                        _skip_unless_deaf(play.clients)
                    if row.stays:
                        return max(play.cohort.opened, play.cohort.answers.total()) >= row.times
                    return await _counted(server, row) >= row.times

                await eventually(seen)
                await _newcomer(server)
                assert not row.answers or set(play.cohort.answers) <= set(row.answers), play.cohort.answers

            async def counted() -> bool:
                return await _counted(server, row) > 0

            await eventually(counted)
        await _everything_is_given_back(server)


async def _everything_is_given_back(server: Serving) -> None:
    """Nobody is left, nothing is counted for anybody, and every place is free."""
    parts = server.server.parts
    with trio.fail_after(30):
        while parts.connections.held:  # noqa: ASYNC110  the last closes are the server's own affair
            await trio.sleep(0.05)
    assert parts.admission.held == 0
    with contextlib.suppress(AttributeError):
        assert parts.admission.statistics()["addresses"] == 0
