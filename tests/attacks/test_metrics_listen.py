"""The operators' listener: its paths, the limits that it shares with the public one, and its few places beyond."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.net.admission import OPERATOR_PLACES
from tests.support.certificates import certificate
from tests.support.peers import ask, chatter, connect, request, upgrade
from tests.support.serving import eventually, neighbour, serving

pytestmark = pytest.mark.jumping_clock

THERE: dict[str, Any] = {"metrics_listen": "127.0.0.1:0"}
#: Paths on both listeners.
HEALTH = ("/healthz", "/readyz")


async def test_metrics_are_on_this_listener_only() -> None:
    async with serving(**THERE) as server, neighbour(server):
        assert server.address != server.metrics_address
        there = await ask(server.metrics_address, "GET", "/metrics")
        assert there.status == 200
        assert b"chatserver_connections" in there.body
        for method in ("GET", "HEAD", "POST"):
            assert (await ask(server.address, method, "/metrics")).status == 404, method
        for address in (server.address, server.metrics_address):
            for path in HEALTH:
                assert (await ask(address, "GET", path)).status == 200, path


async def test_other_paths_are_404_on_this_listener() -> None:
    wires = (
        request("GET", "/"), request("GET", "/rooms"), request("GET", "/rooms/lobby/messages?wait=9"),
        request("GET", "/rooms/lobby/events"), request("POST", "/rooms/lobby/messages", b"hi"),
        request("POST", "/metrics"), upgrade("/ws"), upgrade("/echo"),
    )  # fmt: skip
    async with serving(**THERE, echo=True) as server, connect(server.metrics_address) as peer:
        for wire in wires:
            await peer.send(wire)
            answer = await peer.response()
            assert answer.status == (405 if wire.startswith(b"POST /metrics") else 404), wire
        assert (await peer.request("GET", "/metrics")).status == 200
        assert (await ask(server.address, "GET", "/rooms/lobby/messages")).json["messages"] == []


async def test_places_of_both_listeners_are_counted_together() -> None:
    """The cap for an address covers both listeners."""
    crowd, places = "127.0.0.2", 4
    async with serving(**THERE, per_ip=places) as server, neighbour(server), AsyncExitStack() as stack:
        for number in range(places):
            address = server.metrics_address if number % 2 else server.address
            peer = await stack.enter_async_context(connect(address, source=crowd))
            assert (await peer.request("GET", "/healthz")).status == 200
        for address in (server.address, server.metrics_address):
            async with connect(address, source=crowd) as peer:
                assert (await peer.response()).status == 503


async def test_a_server_that_is_full_of_members_can_be_watched() -> None:
    """Otherwise its probes end it. Clients never get the places that monitors have beyond --max-connections."""
    places = 4
    async with serving(**THERE, total=places, evict_after=0.1) as server, AsyncExitStack() as stack:
        members = [await stack.enter_async_context(chatter(server.address)) for _ in range(places)]
        for number in range(2, 5):
            async with connect(server.metrics_address) as monitor:
                for path in ("/metrics", *HEALTH):
                    assert (await monitor.request("GET", path)).status == 200, path
                await trio.sleep(1)
                # A newcomer from elsewhere evicts the idle monitor.
                async with connect(server.address, source=f"127.0.0.{number}") as newcomer:
                    assert (await newcomer.response()).status == 503
        async with AsyncExitStack() as crowd:
            for _ in range(2 * OPERATOR_PLACES):
                monitor = await crowd.enter_async_context(connect(server.metrics_address))
                assert (await monitor.request("GET", "/healthz")).status in (200, 503)
            assert server.server.parts.connections.held <= places + OPERATOR_PLACES
        for member in members:
            assert (await member.ask("ping"))["type"] == "pong"


async def test_a_closed_operator_leaves_no_entry() -> None:
    """Otherwise the next peer with the same descriptor counts as an operator."""
    async with serving(**THERE) as server:
        known = server.server.parts.connections.operators
        for _ in range(5):
            async with connect(server.metrics_address) as operator:
                assert (await operator.request("GET", "/metrics")).status == 200
                assert len(known) == 1
            await eventually(lambda: not known)
            async with connect(server.address) as peer:
                assert (await peer.request("GET", "/metrics")).status == 404


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_it_speaks_tls_if_the_server_does_and_needs_no_proxy_header(tmp_path: Path, *, tls: bool) -> None:
    """A monitor in the balancer's network sends no PROXY header."""
    options: dict[str, Any] = {**THERE, "trusted_proxy": ("127.0.0.0/8",), "proxy_protocol": True, "head_deadline": 0.5}
    if tls:
        options["tls_cert"], options["tls_key"] = certificate(tmp_path)
    async with serving(**options) as server:
        assert server.server.metrics_address.startswith("https://" if tls else "http://")
        async with connect(server.metrics_address) as monitor:
            for _ in range(2):
                answer = await monitor.request("GET", "/metrics", headers={"X-Forwarded-For": "192.0.2.9"})
                assert answer.status == 200
        async with connect(replace(server.address, tls=None)) as public:
            await public.send(request("GET", "/healthz"))
            assert await public.rest() == b""


@pytest.mark.parametrize(
    ("bound", "known", "unknown"),
    [("127.0.0.2", "127.0.0.2:{port} localhost", "evil.example 127.0.0.1"), ("0.0.0.0", "chat-1.internal:9100", "")],
)
async def test_its_address_is_an_accepted_host(bound: str, known: str, unknown: str) -> None:
    async with serving(metrics_listen=f"{bound}:0", allow_host=()) as server:
        for names, status in ((known, 200), (unknown, 421)):
            for name in names.format(port=server.metrics_address.port).split():
                answer = await ask(server.metrics_address, "GET", "/metrics", headers={"Host": name})
                assert answer.status == status, name
        for name in ("127.0.0.2", "chat-1.internal"):
            assert (await ask(server.address, "GET", "/healthz", headers={"Host": name})).status == 421
