"""Every attack of the catalogue against the real server over real sockets, played by the load generator's personas.

A healthy neighbour must notice nothing, and a newcomer must be let in. Attackers get only the answers of their row, and
end only for its reasons. The test waits until the attack has taken place: it is not enough that they connect.
"""

import json
import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from chatserver.reasons import Reason
from loadgen.personas import bursts, registry
from tests.attacks.catalogue import ROWS, SHORT, Row
from tests.loadgen.stage import playing
from tests.loadgen.trio_time import trio_time
from tests.support.certificates import certificate
from tests.support.peers import ask, chatter
from tests.support.serving import Serving, eventually, neighbour, serving, until
from tests.support.tokens import ALGORITHMS, jwk

#: Seconds for which the personas hold a poll: less than the deadlines of these tests.
POLL_WAIT = 1.0
#: Seconds between two storms, and between two posts that wake the polls: a neighbour acts ten times a second.
STORM_EVERY, POST_EVERY = 1.0, 0.5
#: How clients end that leave by themselves, the neighbour and the newcomer too.
LEFT = {Reason.DONE, Reason.PEER_CLOSED, Reason.PEER_RESET}
#: Attacks that never pause: a jumping clock would hardly move, so they run in real time.
RESTLESS = ("long-requests", "publish-reset")
PLAYED = [
    pytest.param(row, marks=[] if row.kind in RESTLESS else pytest.mark.jumping_clock, id=row.kind) for row in ROWS
]


def test_attackers_and_rows_correspond() -> None:
    assert sorted(row.kind for row in ROWS) == [name for name, persona in registry().items() if not persona.honest]


async def _newcomer(server: Serving) -> None:
    """A client that connects during the attack publishes and receives."""
    async with chatter(server.address) as friend:
        assert (await friend.ask("join", room="newcomers"))["type"] == "joined"
        ack = await friend.ask("publish", room="newcomers", text="hello")
        assert (await friend.next("message"))["offset"] == ack["offset"]
        await friend.close()


@pytest.mark.parametrize("row", PLAYED)
async def test_each_attack_ends_as_its_row_says_and_the_neighbour_does_not_notice(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bursts, "STORM_EVERY_SECONDS", STORM_EVERY)
    monkeypatch.setattr(bursts, "POST_EVERY_SECONDS", POST_EVERY)
    over_tls = registry()[row.kind].needs_tls
    tls = dict(zip(("tls_cert", "tls_key"), certificate(tmp_path), strict=True)) if over_tls else {}
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [jwk(algorithm) for algorithm in ALGORITHMS]}))
    key = {"token_key": (str(keys),)} if row.with_key else {}
    limits = {} if row.kind in RESTLESS else SHORT
    told = {f"{how} {code}" for code in re.findall(r"\b\d{3,4}\b", row.told) for how in ("answered", "close")}
    async with serving(**{**limits, **tls, **key, **row.settings}) as server:
        authority = f"{server.address.host}:{server.address.port}"
        url = f"{'https' if over_tls else 'http'}://{authority}"

        async with (
            neighbour(server),
            nullcontext() if row.kind in RESTLESS else trio_time(),
            playing(url, row.kind, clients=row.clients, host=authority, poll_wait_seconds=POLL_WAIT) as play,
        ):

            def seen() -> bool:
                if row.needs_dark and (faults := play.cohort.engine.own_faults):
                    pytest.skip(f"this kernel cannot make a socket drop all packets: {dict(faults)}")
                answers = play.cohort.answers
                if row.stays:
                    return sum(answers.values()) >= row.times and play.cohort.deliveries >= row.received
                return (not told or bool(told & answers.keys())) and server.ended(*row.ends) >= row.times

            await eventually(seen)
            if row.stored_in:
                page = partial(ask, server.address, "GET", f"/rooms/{row.stored_in}/messages")
                await until(page, lambda answer: answer.json["messages"])
            await _newcomer(server)
            assert play.cohort.answers.keys() <= told | set(row.answers)
            assert not (row.stays and play.cohort.ended)
        parts = server.server.parts
        await eventually(lambda: not parts.connections.held)
        assert {reason for reason in Reason if server.ended(reason)} <= {*row.ends, *LEFT}
        assert parts.admission.networks == 0
