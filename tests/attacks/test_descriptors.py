"""Descriptors run out: members keep chatting, newcomers are served, nothing spins, and the server recovers by itself.

The server is a process of its own, with its own `ulimit -n`.
"""

import resource
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.attacks.siege import PERSON, Attack, visit
from tests.support.parked import descriptors
from tests.support.peers import PATIENCE, Chatter, ask, chatter
from tests.support.serving import ServerProcess, eventually, free_flags, sample, server_process, until

#: `ulimit -n` of the server, and the number of attackers. Forty places are left when the operator is connected: in
#: fewer than `evict_after` has ticks (twenty) no attacker could be evicted in the tick in which all of them came.
DESCRIPTORS, ATTACKERS = 130, 160
#: Seconds until each attacker reconnects: three want each place, and 160 come in a second.
PRESSING = 1.0
#: Passes of the loop a second: chatting members cause one or two hundred, a loop that spins makes some ten thousand.
CALM = 1_500
#: The operator's address.
OPERATOR = PERSON.format(200)


async def metric(server: ServerProcess, name: str, **labels: str) -> float:
    answer = await ask(server.address, "GET", "/metrics", source=OPERATOR)
    return sample(answer.body, f"chatserver_{name}", **labels)


async def counts(server: ServerProcess) -> list[float]:
    """The counts that must be equal before and after."""
    found = [await metric(server, name) for name in ("connections", "addresses", "members", "faults_total")]
    return [*found, descriptors(server.process.pid)]


async def is_calm(server: ServerProcess) -> bool:
    """Whether the loop makes few passes a second."""
    before = await metric(server, "loop_pass_seconds_count")
    await trio.sleep(1.0)
    return await metric(server, "loop_pass_seconds_count") - before < CALM


async def chat(member: Chatter, friend: Chatter) -> None:
    while True:
        ack = await member.ask("publish", room="inside", text="all is well")
        assert ack["type"] == "ack"
        for hears in (member, friend):
            assert (await hears.next("message"))["offset"] == ack["offset"]
        await trio.sleep(0.05)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux only: takes descriptors from a process that runs")
async def test_attackers_take_all_descriptors(tmp_path: Path) -> None:
    """More attackers than descriptors; then the limit is lowered as well."""
    async with (
        server_process(tmp_path, *free_flags(tmp_path), descriptors=DESCRIPTORS, is_forked=True) as server,
        chatter(server.address) as member,
        chatter(server.address) as friend,
        trio.open_nursery() as nursery,
    ):
        for each in (member, friend):
            await each.ask("join", room="inside")
        nursery.start_soon(chat, member, friend)
        assert await metric(server, "places") < DESCRIPTORS
        before = await counts(server)
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        for fewer in (0, 20):
            attack = Attack(server.address)
            attack.pause = PRESSING
            async with attack.of(ATTACKERS):
                await eventually(partial(attack.was_told, ATTACKERS))
                if fewer:
                    left = descriptors(server.process.pid) - fewer
                    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (left, limits[1]))
                    attack.told.clear()
                    await eventually(partial(attack.was_told, ATTACKERS))
                for number in range(1, 6):
                    await visit(server.address, PERSON.format(number))
                attack.pause = PATIENCE  # the refused stop; the connected stay until they are closed
                await eventually(lambda: is_calm(server))
                if fewer:
                    assert await metric(server, "connections") < left
            assert {answer.status for answer in attack.told} <= {503, 408}
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)
            await until(lambda: counts(server), lambda found: found == before)
            await visit(server.address, PERSON.format(99))
        assert await metric(server, "closes_total", reason="evicted") > 0
        nursery.cancel_scope.cancel()
