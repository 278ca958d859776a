"""`chatserver doctor` against real servers: healthy ones, and one planted fault at a time."""

import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver import cli
from chatserver.api import monitoring
from chatserver.chat import cluster, follower
from chatserver.client.credentials import Credentials
from chatserver.client.stream import parse_target
from chatserver.doctor import delivery, findings, inquiry
from chatserver.doctor.command import examine
from chatserver.doctor.delivery import Observer
from chatserver.doctor.facts import Node, Report, Severity, Trouble
from chatserver.doctor.inquiry import inquire
from chatserver.log.interface import Draft, LogError, LogUnavailable, Stored, system_ms
from chatserver.log.memory import MemoryLog
from chatserver.log.sqlite import SqliteLog
from chatserver.reasons import Reason
from tests.log.support import neighbours_in
from tests.support.answering import answering
from tests.support.certificates import certificate
from tests.support.peers import connect
from tests.support.ports import steady_port
from tests.support.serving import Serving, eventually, serving
from tests.support.tokens import secret_file, token
from tests.support.valkeys import Valkey, url_of

#: Error in milliseconds of the clock of servers that are started while this is set.
SKEW = ContextVar("SKEW", default=0)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is slow."""
    monkeypatch.setattr(findings, "SLOW", math.inf)


def url(server: Serving) -> str:
    return server.server.addresses[0]


async def examined(*servers: Serving | str, token: str = "") -> Report:
    urls = [each if isinstance(each, str) else url(each) for each in servers]
    return await examine({each: parse_target(each) for each in urls}, token, "doctor")


def faults(report: Report) -> list[str]:
    found = [each.what for each in report.findings if each.severity is Severity.FAULT]
    assert report.ok == (not found)
    return found


@asynccontextmanager
async def pair(folder: Path, *shared: str, minutes_off: int = 0) -> AsyncIterator[tuple[Serving, Serving]]:
    """Two servers on one file, each with its --shared; the clock of the second is off by so many minutes."""
    async with AsyncExitStack() as stack:
        running = []
        for number in range(2):
            SKEW.set(number * minutes_off * 60_000)
            log = SqliteLog(str(folder / "chat.db"), neighbours=neighbours_in(folder, number, 2))
            settings: dict[str, Any] = {"shared": shared[number]} if shared else {}
            running.append(await stack.enter_async_context(serving(engine=log, log="sqlite:chat.db", **settings)))
        SKEW.set(0)
        yield running[0], running[1]


# -- healthy ----------------------------------------------------------------------------------------------------------


async def test_a_single_server_is_healthy() -> None:
    async with serving() as server:
        report = await examined(server)
    assert report.ok
    assert report.findings == []
    [node], [itself] = report.nodes, report.deliveries
    assert (node.trouble, node.log, node.version != "", len(node.epoch)) == (None, "memory", True, 6)
    assert (itself.readable, itself.present) == (True, True)
    assert None not in (itself.pushed_ms, node.publish_ms, node.clock_ms)


async def test_two_servers_with_one_log_and_shards_are_healthy(
    tmp_path: Path, servers: list[Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "REPORT_INTERVAL", 0.1)
    monkeypatch.setattr(findings, "SLOW", math.inf)  # a busy machine is
    async with pair(tmp_path, *[url_of(servers)] * 2) as running:
        for each in running:
            await eventually(partial(all_reachable, each))
        report = await examined(*running)
    assert (report.ok, report.findings) == (True, [])
    assert len(report.deliveries) == 4
    assert all(each.readable and each.present and each.pushed_ms for each in report.deliveries)
    assert {str(each.shards and each.shards.reachable) for each in report.nodes} == {"2"}


async def test_a_token_where_guests_have_no_rights(tmp_path: Path) -> None:
    async with serving(guests="none", token_key=(secret_file(tmp_path),)) as server:
        report = await examined(server)
        assert [each.trouble for each in report.nodes] == [Trouble.REFUSED]
        assert "does not let the doctor in" in faults(report)[0]
        assert "--token" in report.findings[0].advice
        report = await examined(server, token=token(sub="u_ops", name="Ops"))
        assert faults(report) == []
        assert report.deliveries[0].present


@pytest.mark.parametrize("limit", ["max_rooms_per_connection", "max_empty_rooms", None])
async def test_a_node_that_allows_the_doctor_one_room(limit: str | None, tmp_path: Path) -> None:
    """It said that the node does not let it in, and to give the token that it was given."""
    options: dict[str, Any] = {} if limit is None else {limit: 1}
    async with serving(token_key=(secret_file(tmp_path),), **options) as server:
        rooms = {"doctor": "rw"} if limit is None else {"doctor*": "rw"}
        report = await examined(server, token=token(chat={"rooms": rooms}))
    assert report.ok
    assert (report.deliveries[0].readable, report.deliveries[0].present) == (True, None)
    [warning] = report.findings
    assert warning.what.startswith(f"the lists of members at {url(server)} are not examined: ")


# -- one planted fault ------------------------------------------------------------------------------------------------


@pytest.mark.jumping_clock
async def test_waits_for_the_publish_rate_are_no_time_of_the_node() -> None:
    """They were shown as acknowledgements that took 2 s, and as slow deliveries of an overloaded node."""
    async with serving(publish_rate=0.5) as server:
        report = await examined(server)
    assert faults(report) == []
    [node], [itself] = report.nodes, report.deliveries
    assert (node.publish_ms or 0.0) + (itself.pushed_ms or math.inf) < 1_000.0, "this clock moves by the waits alone"


async def test_a_rate_below_that_of_the_doctor_allows_it_one_message(tmp_path: Path) -> None:
    """It waits for its answers for seconds only: it said that it lacks a token."""
    async with serving(publish_rate=0.01, token_key=(secret_file(tmp_path),)) as server:
        secret = token(sub="u_ops", name="Ops")
        report = await examined(server, token=secret)
        assert faults(report) == []
        assert (report.deliveries[0].readable, report.deliveries[0].present) == (True, True)
        again = await examined(server, token=secret)
    assert faults(again)[0].startswith(f"{url(server)} allows no message now: too many messages; try again in ")
    assert "--publish-rate" in again.findings[0].advice


async def test_nodes_with_other_logs_are_not_one_chat() -> None:
    async with serving() as one, serving() as other:
        report = await examined(one, other)
    [fault] = faults(report)
    assert fault.startswith("the nodes have different logs, of the epochs ")
    assert [(each.sender, each.receiver) for each in report.deliveries if each.sender != each.receiver] == []
    assert all(each.readable for each in report.deliveries), "each is healthy by itself"


async def test_a_port_that_serves_no_rooms_needs_another_url_and_no_token(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with serving(metrics_listen="127.0.0.1:0") as one, serving(tls_cert=cert, tls_key=key) as other:
        for address in (one.server.metrics_address, url(other).replace("https", "http")):
            [finding] = (await examined(address)).findings
            assert f"{address} is not a chatserver: " in finding.what
            assert finding.advice.startswith("give the URL under which the page of the chat opens")


async def test_a_node_is_asked_over_one_connection() -> None:
    async with serving() as server:
        node = Node(url=url(server))
        stats = server.server.parts.stats
        before = sum(stats.closes.values())
        await inquire(node, parse_target(node.url), Credentials(), "doctor")
        await eventually(lambda: server.server.parts.connections.held == 0)
        assert sum(stats.closes.values()) - before == 1
    assert node.trouble is None


async def test_a_node_behind_the_proxy_protocol_is_told_of(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    proxied: dict[str, Any] = {"proxy_protocol": True, "trusted_proxy": ("127.0.0.1",)}
    async with serving(**proxied) as one, serving(tls_cert=cert, tls_key=key, **proxied) as other:
        findings = (await examined(one, other)).findings
    assert [" cannot be reached: " in each.what for each in findings] == [True, True]
    assert all("--proxy-protocol" in each.advice for each in findings)


async def test_the_others_are_examined_though_a_node_is_not_ready() -> None:
    async with serving() as one, serving() as other:
        other.server._ready = False
        report = await examined(one, other)
        other.server._ready = True
    assert faults(report) == [f"{url(other)} is not ready: the server is starting or stopping"]
    assert [each.sender for each in report.deliveries] == [url(one)]


async def test_a_node_without_its_database() -> None:
    class Lost(MemoryLog):
        reachable = False

    async with serving(engine=Lost()) as server:
        assert faults(await examined(server)) == [f"{url(server)} is not ready: the database of its log cannot be used"]
        assert await server.metric("chatserver_log_up") == 0


async def test_a_node_without_a_place_for_the_doctor() -> None:
    """It was said to be "not ready", and to get ready by itself; its log has a line `refused`."""
    async with serving(per_ip=1) as node, connect(node.address) as member:
        assert (await member.request("GET", "/healthz")).status == 200
        [finding] = (await examined(node)).findings
    assert f"{url(node)} fails: the server, or this network, holds as many connections as it may" in finding.what
    assert "`refused`" in finding.advice


@pytest.mark.jumping_clock
async def test_a_node_that_stores_nothing_needs_no_token() -> None:
    """Its disk is full, while it is ready and can be read."""

    class Full(MemoryLog):
        def _store(self, draft: Draft, now: int) -> Stored | LogError:
            return LogUnavailable("planted")

    async with serving(engine=Full()) as server:
        report = await examined(server)
        assert faults(report)[0].startswith(f"{url(server)} fails: the message could not be stored")
    assert report.findings[0].advice.startswith("its log says why")


async def test_a_node_whose_clock_is_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(monitoring, "system_ms", lambda: system_ms() + SKEW.get())
    async with pair(tmp_path, minutes_off=5) as running:
        report = await examined(*running)
    clock, *others = faults(report)
    assert clock == f"the clock of {url(running[1])} is 5.0 min ahead of that of {url(running[0])}"
    assert others == []


async def answer_with(data: bytes, stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        if data:
            await stream.send_all(data)


@pytest.mark.jumping_clock
async def test_a_peer_that_is_no_chatserver() -> None:
    for data, trouble, words in (
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", Trouble.FOREIGN, "it answers 404 at /readyz"),
        *(
            (b"HTTP/1.1 %d X\r\nLocation: /chat\r\nContent-Length: 0\r\n\r\n" % status, Trouble.FOREIGN, "to /chat")
            for status in (301, 302, 307)
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Trouble.FOREIGN, "its answers are not a chat server's"),
        (
            b'HTTP/1.1 200 OK\r\nContent-Length: 37\r\n\r\n{"status":"ready","time":"yesterday"}',
            Trouble.FOREIGN, "its answers are not a chat server's",
        ),
        (
            b'HTTP/1.1 421 Other\r\nContent-Length: 51\r\n\r\n{"error":{"code":"misdirected","message":"not me"}}',
            Trouble.MISDIRECTED, "not me",
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            Trouble.UNREACHABLE, "the server answered 502",
        ),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Trouble.UNAVAILABLE, "the server answered 500"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Trouble.FOREIGN, "does not speak HTTP"),
        (b"", Trouble.UNREACHABLE, f"no answer within {inquiry.PATIENCE:g} s"),
    ):  # fmt: skip
        async with answering(partial(answer_with, data)) as address:
            report = await examined(address)
        [node] = report.nodes
        assert (node.trouble, words in node.words) == (trouble, True), (data, node.words)
        assert len(faults(report)) == 1
        assert report.deliveries == []


async def relay_without_upgrades(to: int, client: trio.SocketStream) -> None:
    server = await trio.open_tcp_stream("127.0.0.1", to)

    async def answers() -> None:
        async for data in server:
            await client.send_all(data)

    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(answers)
        async for data in client:
            await server.send_all(re.sub(rb"(?i)\r\nupgrade: [^\r]+", b"", data))
        nursery.cancel_scope.cancel()


async def test_a_proxy_that_passes_no_websockets_on_needs_no_token() -> None:
    async with serving() as server, answering(partial(relay_without_upgrades, server.address.port)) as proxy:
        report = await examined(f"http://{proxy}")
    [fault] = faults(report)
    assert fault.startswith(f"http://{proxy} accepts no WebSocket: the server answered 426: ")
    assert "a proxy may have removed it" in fault
    assert "proxy" in report.findings[0].advice


@pytest.mark.jumping_clock
async def test_copies_of_a_log_have_one_epoch_but_different_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = MemoryLog().identity
    monkeypatch.setattr("chatserver.log.memory.new_identity", lambda: identity)
    async with serving() as one, serving() as other:
        found = faults(await examined(one, other))
    assert f"what {url(one)} acknowledges cannot be read at {url(other)}" in found
    assert f"what {url(other)} acknowledges cannot be read at {url(one)}" in found


@pytest.mark.jumping_clock
async def test_a_node_that_loses_its_connection_is_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = MemoryLog().identity
    monkeypatch.setattr("chatserver.log.memory.new_identity", lambda: identity)
    asked = []
    async with serving() as one, serving() as other:

        async def reads(self: Observer, text: str, offset: int) -> bool:
            asked.append(self.node.url)
            if self.node.url == url(other):
                other.server.parts.connections.close_all(Reason.EVICTED)
                await eventually(lambda: self.node.trouble is not None)
            return True

        monkeypatch.setattr(Observer, "reads", reads)
        report = await examined(one, other)
    assert asked == [url(one), url(other)]
    [lost] = [each for each in faults(report) if url(other) in each]
    assert lost.startswith(f"{url(other)} cannot be reached: ")


async def test_nodes_that_do_not_hear_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", 2.0)
    monkeypatch.setattr(follower.Follower, "on_hints", lambda self, hints: None)
    monkeypatch.setattr(follower, "COMPARE_INTERVAL", math.inf)
    async with pair(tmp_path) as (one, other):
        found = faults(await examined(one, other))
    assert f"what {url(one)} acknowledges can be read at {url(other)}, and is not pushed to WebSockets there" in found


async def test_nodes_with_other_shards_do_not_see_each_others_people(
    tmp_path: Path, servers: list[Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", 2.0)
    async with pair(tmp_path, *(url_of([each]) for each in servers)) as running:
        for each in running:
            await eventually(partial(all_reachable, each))
        found = faults(await examined(*running))
    one, other = map(url, running)
    assert f"a member at {one} is not in the list of members at {other}" in found


def all_reachable(server: Serving) -> bool:
    shared = server.server.parts.shared
    assert shared is not None
    return shared.shards.reachable == len(shared.shards.all)


# -- the command ------------------------------------------------------------------------------------------------------


async def run(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, str, str]:
    """Run the command in a thread, since the server is in this process."""
    code = await trio.to_thread.run_sync(cli.run_command, ["doctor", *tokens])
    said = capsys.readouterr()
    return code, said.out, said.err


async def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as server:
        code, out, err = await run(capsys, url(server), "--room", "ops")
        assert (code, err) == (0, "")
        assert url(server) in out
        assert out.endswith("\n✓ the node is well: what is published there arrives and can be read\n")
        assert "\x1b" not in out
        code, out, err = await run(capsys, url(server), "--json")
        assert (code, err, json.loads(out)["ok"]) == (0, "", True)
        port = steady_port()  # where nobody listens
        code, out, err = await run(capsys, url(server), f"127.0.0.1:{port}")
        assert (code, err) == (1, "")
        assert f"✗ 127.0.0.1:{port} cannot be reached: cannot connect: Connection refused\n" in out
        assert "✓" not in out
