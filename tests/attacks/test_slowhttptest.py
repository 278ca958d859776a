"""The server under slowhttptest, a tool of others for slow requests: it ends them all, and answers its probes."""

import os
import re
import shutil

import pytest
import trio

from tests.support.peers import PATIENCE
from tests.support.serving import neighbour, serving

TOOL = "slowhttptest"
#: Attackers, and how many of them the tool opens in a second, in which it never sleeps; the seconds of a test at most,
#: and between two pieces.
CLIENTS, RATE, SECONDS, PAUSE = 60, 600, 20, 1


@pytest.mark.skipif(
    shutil.which(TOOL) is None and "REQUIRE_SERVERS" not in os.environ, reason=f"no {TOOL} on this machine"
)
@pytest.mark.parametrize(
    ("attack", "reason"), [(["-H"], "head-deadline"), (["-B", "-s", "8192"], "body-deadline")], ids=["head", "body"]
)
async def test_slow_requests_of_another_tool_are_all_ended(attack: list[str], reason: str) -> None:
    """Its own report says so, by the state of each of its connections."""
    async with serving(head_deadline=2.0, body_deadline=2.0, per_ip=0) as server, neighbour(server):
        url = f"http://{server.address.host}:{server.address.port}/"
        load = ["-c", str(CLIENTS), "-r", str(RATE), "-l", str(SECONDS), "-i", str(PAUSE), "-p", str(int(PATIENCE))]
        with trio.fail_after(SECONDS + 2 * PATIENCE):
            done = await trio.run_process([TOOL, *attack, *load, "-u", url], capture_stdout=True)
        told = re.sub(r"\x1b\[[\d;]*m", "", done.stdout.decode())
        assert "No open connections left" in told, told
        assert set(re.findall(r"service available:\s+(\w+)", told)) == {"YES"}, told
        assert await server.closes(reason) == CLIENTS
