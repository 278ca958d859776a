"""A server behind a balancer, and peers that pretend to be a balancer, over real sockets.

The balancer's address is 127.0.0.2; all other peers and the neighbour connect from 127.0.0.1.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.edge.proxied import trusted_proxies
from tests.support.certificates import NAMES, certificate, trusting_any
from tests.support.peers import Answer, Peer, ask, connect, request, upgrade
from tests.support.serving import Serving, eventually, neighbour, serving

pytestmark = pytest.mark.jumping_clock

BALANCER = "127.0.0.2"
#: Connections that each address may have: the neighbour needs two, and reading /metrics a third.
PLACES = 4
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def line(client: str) -> bytes:
    """A PROXY header of version 1."""
    return f"PROXY TCP4 {client} 198.51.100.1 56324 443\r\n".encode()


def binary(client: str) -> bytes:
    """A PROXY header of version 2, with an extension."""
    address = bytes(map(int, client.split(".")))
    body = address * 2 + b"\x12\x34\x01\xbb" + b"\x04\x00\x02no"
    return SIGNATURE + b"\x21\x11" + len(body).to_bytes(2, "big") + body


def forwarded(*hops: str) -> dict[str, str]:
    return {"X-Forwarded-For": ", ".join(hops)}


@asynccontextmanager
async def proxied(**settings: Any) -> AsyncIterator[Serving]:
    options = {"trusted_proxy": ("2001:db8::/32", BALANCER), **settings}
    async with serving(**options) as server, neighbour(server):
        yield server


@asynccontextmanager
async def balancer(server: Serving, first: bytes = b"") -> AsyncIterator[Peer]:
    """A connection of the balancer, which may send a header first."""
    async with connect(server.address, source=BALANCER) as peer:
        if first:
            await peer.transport.send_all(first)
        yield peer


async def refused(peer: Peer) -> Answer:
    answer = await peer.response()
    assert (answer.status, answer.error) == (503, "full")
    assert int(answer.headers["retry-after"]) > 0
    return answer


def test_addresses_and_networks() -> None:
    trusted = trusted_proxies(["10.0.0.1/8", "192.0.2.7", "2001:db8:1::/48", "fe80::/10", "::ffff:198.51.100.7"])
    for _ in ("first", "the cached answer"):
        for address in (
            "10.1.2.3", "192.0.2.7", "2001:db8:1::9", "::ffff:10.1.2.3", "fe80::1%eth0", "198.51.100.7",
            "::ffff:198.51.100.7",
        ):  # fmt: skip
            assert trusted(address) is True, address
        for address in ("192.0.2.8", "2001:db8:2::9", "127.0.0.1"):
            assert trusted(address) is False, address


# -- the PROXY header -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [line, binary])
async def test_the_cap_is_for_the_client_and_not_for_the_balancer(header: Any) -> None:
    async with proxied(proxy_protocol=True, per_ip=PLACES) as server, AsyncExitStack() as stack:
        for client in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            for _ in range(PLACES):
                peer = await stack.enter_async_context(balancer(server, header(client)))
                assert (await peer.request("GET", "/healthz")).status == 200
            async with balancer(server, header(client)) as one_too_many:
                answer = await refused(one_too_many)
                assert (answer.headers["connection"], b"this network" in answer.body) == ("close", True)
        await stack.enter_async_context(balancer(server, header("192.0.2.1")[:20]))
        await server.in_phase("proxy")
        assert await server.metric("chatserver_addresses") == 5, "three clients, the neighbour, and the balancer"
        await server.counted("refused-address", 3)
        await stack.aclose()
        await server.held(1)
        assert await server.metric("chatserver_addresses") == 1


LAST = request("GET", "/readyz", headers={"Connection": "close"})
HEADER = line("192.0.2.1")
#: What peers send, in pieces with a pause before each, and the statuses of the answers.
SENT: list[tuple[str, list[bytes], list[str]]] = [
    (BALANCER, [SIGNATURE + b"\x20\x00\x00\x00" + LAST], ["200"]),  # a health check
    (BALANCER, [b"PROXY UNKNOWN\r\n" + LAST], ["200"]),
    (BALANCER, [HEADER[:20], HEADER[20:] + LAST[:9], LAST[9:]], ["200"]),
    (BALANCER, [], []),
    (BALANCER, [HEADER[at : at + 1] for at in range(len(HEADER))] + [LAST], []),  # it moves, but not its deadline
    (BALANCER, [LAST], []),
    (BALANCER, [b"\x16\x03\x01\x00\x10"], []),
    (BALANCER, [b"PROXY TCP4 x y 1 2\r\n"], []),
    (BALANCER, [HEADER + line("192.0.2.2") + LAST], ["400"]),
    ("", [HEADER + LAST], ["400"]),
]


async def test_only_a_whole_header_of_a_balancer_counts_and_only_once() -> None:
    async with proxied(proxy_protocol=True, head_deadline=0.5) as server:
        async with balancer(server):
            pass  # a health check
        for source, pieces, told in SENT:
            async with connect(server.address, source=source) as peer:
                with suppress(trio.BrokenResourceError):  # a server that has closed
                    for piece in pieces:
                        await trio.sleep(0.1)
                        await peer.send(piece)
                assert re.findall(r"^HTTP/1.1 (\d+) ", (await peer.rest()).decode(), re.MULTILINE) == told, pieces
        await server.counted("proxy-header", 5)
        await server.counted("bad-request", 2)


async def test_the_header_comes_before_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)

    async def visit() -> Peer:
        # Plaintext at first: TLS begins after the header.
        peer = await stack.enter_async_context(connect(replace(server.address, tls=None), source=BALANCER))
        await peer.send(line("192.0.2.1"))
        tls = trio.SSLStream(peer.transport, trusting_any(), server_hostname=NAMES[0])
        await tls.do_handshake()
        return Peer(peer.transport, tls)

    async with (
        proxied(proxy_protocol=True, per_ip=PLACES, tls_cert=cert, tls_key=key) as server,
        AsyncExitStack() as stack,
    ):
        for _ in range(PLACES):
            assert (await (await visit()).request("GET", "/healthz")).status == 200
        with pytest.raises(trio.BrokenResourceError):
            await visit()
        await server.counted("refused-address")


# -- X-Forwarded-For ------------------------------------------------------------------------------------------------


async def visit(peer: Peer, *hops: str) -> int:
    """The status of a short request, after which the connection stays open."""
    answer = await peer.request("GET", "/healthz", headers=forwarded(*hops))
    assert answer.headers["connection"] == "keep-alive"
    return answer.status


def a_poll(client: str) -> bytes:
    return request("GET", "/rooms/quiet/messages?after=0&wait=20", headers=forwarded(client))


def half_a_body(client: str) -> bytes:
    fields = {**forwarded(client), "Content-Type": "text/plain", "Content-Length": "100"}
    return request("POST", "/rooms/quiet/messages", b"x", headers=fields)


@pytest.mark.parametrize(("asks", "phase"), [(a_poll, "held"), (half_a_body, "body")])
async def test_a_connection_counts_for_a_client_while_it_carries_its_request(
    asks: Callable[[str], bytes], phase: str
) -> None:  # fmt: skip
    async with proxied(per_ip=PLACES) as server, AsyncExitStack() as stack:
        pool = [await stack.enter_async_context(balancer(server)) for _ in range(PLACES + 1)]
        for peer in pool[:PLACES]:
            assert await visit(peer, "192.0.2.9") == 200, "an earlier client of the connection"
            await peer.send(asks("192.0.2.1"))
        await server.in_phase(phase, PLACES)
        await pool[-1].send(asks("192.0.2.1"))
        await refused(pool[-1])
        pool[-1] = await stack.enter_async_context(balancer(server))
        assert await visit(pool[-1], "192.0.2.1") == 503
        assert await visit(pool[-1], "203.0.113.9", "192.0.2.1", BALANCER) == 503, "the client's own claim is ignored"
        async with connect(server.address) as liar:
            assert await visit(liar, "192.0.2.1") == 200, "only a proxy is believed"
        assert await visit(pool[-1], "192.0.2.9") == 200, "connections of which it has used four before"
        assert await visit(pool[-1], "") == 200, "the proxy itself has no cap"
        await server.counted("refused-address", 3)
        await stack.aclose()
        await server.held(1)
        assert await server.metric("chatserver_addresses") == 1
        forwarded_for = server.server.parts.exchanges._forwarded
        assert forwarded_for is not None
        assert not forwarded_for._proxy_of, "none that has ended within its request"


async def test_an_idle_connection_counts_for_the_proxy_whatever_clients_it_had() -> None:
    """One client, one request at a time, over more connections than it may have."""
    async with proxied(per_ip=PLACES) as server, AsyncExitStack() as stack:
        pool = [await stack.enter_async_context(balancer(server)) for _ in range(PLACES + 1)]
        assert [await visit(peer, "192.0.2.1") for peer in pool] == [200] * len(pool)
        assert await server.metric("chatserver_addresses") == 2, "the proxy and the neighbour"


async def test_a_connection_counts_for_its_client_until_the_answer_is_read() -> None:
    async with proxied(per_ip=PLACES, send_buffer=4096) as server, balancer(server) as peer, AsyncExitStack() as stack:
        for _ in range(10):
            await ask(server.address, "POST", "/rooms/full/messages", b"x" * 8000)
        unread = []
        for _ in range(PLACES):
            slow = await stack.enter_async_context(connect(server.address, source=BALANCER, receive_buffer=4096))
            await slow.send(request("GET", "/rooms/full/messages?after=0", headers=forwarded("192.0.2.1")))
            unread.append(slow)
        table = server.server.parts.connections.table
        await eventually(lambda: sum(each is not None and each.blocked for each in table) == PLACES)
        assert await visit(peer, "192.0.2.1") == 503
        assert (await unread[0].response()).status == 200
        await eventually(lambda: [each.address for each in table if each is not None].count(BALANCER) == 2)
        assert await visit(peer, "192.0.2.1") == 200


async def test_the_log_says_who_was_refused() -> None:
    """An operator saw that a network was over its limit, and not which one."""
    async with proxied(per_ip=PLACES) as server, AsyncExitStack() as stack:
        for _ in range(PLACES):
            await (await stack.enter_async_context(balancer(server))).send(a_poll("192.0.2.1"))
        for _ in range(PLACES + 1):
            await stack.enter_async_context(connect(server.address, source="127.0.0.9"))
        await server.in_phase("held", PLACES)
        assert await visit(await stack.enter_async_context(balancer(server)), "192.0.2.1") == 503
        one_more = await stack.enter_async_context(balancer(server))
        await one_more.send(half_a_body("192.0.2.1"))
        await refused(one_more)
        await server.counted("refused-address", 3)
        assert refusals(server) == ["127.0.0.9", "192.0.2.1", "192.0.2.1"]
    async with proxied(proxy_protocol=True, per_ip=PLACES) as server, AsyncExitStack() as stack:
        for _ in range(PLACES):
            peer = await stack.enter_async_context(balancer(server, line("192.0.2.1")))
            assert (await peer.request("GET", "/healthz")).status == 200
        await refused(await stack.enter_async_context(balancer(server, line("192.0.2.1"))))
        assert refusals(server) == ["192.0.2.1"]


def refusals(server: Serving) -> list[str]:
    return sorted(each.get("peer", "") for each in server.logs if each["event"] == "refused")


async def test_nothing_is_answered_after_an_upgrade_that_was_refused() -> None:
    """Some proxies pass everything on from then on: the client could name itself in the proxy's fields."""
    forged = request("GET", "/session", headers={**forwarded("192.0.2.1"), "X-User": "u_admin"})
    async with proxied(user_header="X-User") as server:
        for path, fields, status in (
            ("/nothing", {}, "404"),
            ("/healthz", {}, "200"),
            ("/ws", {"Sec-WebSocket-Version": "9"}, "426"),
            ("/ws", {"Origin": "https://evil.example"}, "403"),
            ("/rooms/quiet/messages?after=0&wait=1", {}, "200"),
        ):
            async with balancer(server) as peer:
                await peer.send(upgrade(path, headers={**forwarded("203.0.113.9"), **fields}) + forged)
                assert re.findall(r"^HTTP/1.1 (\d+) ", (await peer.rest()).decode(), re.MULTILINE) == [status], path


@pytest.mark.parametrize("header", [SIGNATURE + b"\x20\x00\x00\x00", b"PROXY UNKNOWN\r\n"], ids=["LOCAL", "UNKNOWN"])
async def test_a_proxy_that_names_no_client_vouches_for_no_field(header: bytes) -> None:
    """It passes bytes on: the fields are the client's own, who could be any user, at any address."""
    async with proxied(proxy_protocol=True, user_header="X-User") as server, balancer(server, header) as peer:
        fields = {**forwarded("192.0.2.1"), "X-User": "u_admin", "X-Forwarded-Proto": "https"}
        for _ in range(2):
            answer = await peer.request("GET", "/session", headers=fields)
            assert answer.json["user"]["id"] != "u_admin"
        await peer.send(request("POST", "/rooms/r/messages", b"hi", headers=fields)[:-1])
        await server.in_phase("body")
        addresses = {each.address for each in server.server.parts.connections.table if each is not None}
        assert addresses == {BALANCER, "127.0.0.1"}


async def test_guests_behind_a_proxy_are_distinguished() -> None:
    async with proxied() as server, balancer(server) as peer:
        for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            headers = {**forwarded(client), "Content-Type": "text/plain"}
            assert (await peer.request("POST", "/rooms/r/messages", b"hi", headers=headers)).status == 201
        page = (await ask(server.address, "GET", "/rooms/r/messages?after=0")).json
        names = [message["user"]["id"] for message in page["messages"]]
        assert names[0] == names[2] != names[1]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "upgrade"])
async def test_a_cookie_is_secure_if_the_proxy_reports_tls(method: str) -> None:
    async with proxied() as server:
        for source, scheme, secure in ((BALANCER, "https", True), (BALANCER, "http", False), ("", "https", False)):
            async with connect(server.address, source=source) as peer:
                headers = {"X-Forwarded-Proto": scheme}
                if method == "upgrade":
                    await peer.send(upgrade(headers=headers))
                    answer = await peer.head()
                else:
                    answer = await peer.request(method, "/" if method == "GET" else "/session", headers=headers)
                assert answer.headers["set-cookie"].endswith("; Secure") is secure, (source, scheme)


async def test_a_page_over_http_is_foreign_if_the_proxy_reports_tls() -> None:
    """It may have been altered on its way, and would act as the user, whose cookie it got over https."""
    async with proxied(allow_host=("chat.example",)) as server, balancer(server) as peer:
        for page, scheme, status in (("http", "https", 403), ("https", "https", 201), ("http", "http", 201)):
            headers = {
                **forwarded("192.0.2.1"), "Host": "chat.example", "Origin": f"{page}://chat.example",
                "X-Forwarded-Proto": scheme, "Content-Type": "text/plain",
            }  # fmt: skip
            answer = await peer.request("POST", "/rooms/r/messages", b"hi", headers=headers)
            assert answer.status == status, (page, scheme)
