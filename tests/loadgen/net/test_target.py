"""Where the load goes, whether it may, and how far away that is."""

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial

import pytest
import trio

from loadgen.net import target
from loadgen.net.target import Target, TargetDownError, TargetRefusedError, UsageError
from loadgen.run import preflight
from loadgen.run.preflight import InvalidRunError
from tests.loadgen.planted import Plant, planted
from tests.loadgen.stage import PATIENCE, answering, listening


def _target(address: str, port: int, host: str = "chat.example") -> Target:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return Target(url=f"http://{host}", host=host, address=address, port=port, family=family)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("ws://127.9.9.9:80/ws", "127.9.9.9"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://localhost", "localhost"),
        ("wss://127.0.0.1:443", "127.0.0.1"),
        ("wss://127.0.0.1", "127.0.0.1"),
        ("https://127.0.0.1:80", "127.0.0.1:80"),
    ],
)
def test_the_loopback_may_be_loaded(url: str, authority: str) -> None:
    where = target.find(url)
    assert (where.address.startswith("127."), where.authority) == (True, authority)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("ftp://127.0.0.1", "not of the form"),
        ("http://", "not of the form"),
        ("http://127.0.0.1:99999", "port"),
        ("http://[::1", "invalid ipv6 url"),
        ("http://127.0.0.1/rooms/lobby", "has a path; name the server only, and say --path /rooms/lobby"),
        ("wss://127.0.0.1/echo", "has a path; name the server only, and say --ws-path /echo"),
        ("http://127.0.0.1/?a=1", r"say --path '/\?a=1'"),
        ("http://127.0.0.1:", "not of the form"),  # as of a variable that is not set
        ("unix:/run/chat.sock", "not of the form"),
        ("http://127.0.0.1/#top", "has a path"),
        ("http://ann:secret@127.0.0.1", "it has a user; say --header"),
        ("unix:///run/chat.sock", "not of the form"),
        ("http://no-such-host.invalid", "cannot be resolved"),
        ("http://two..dots", "'two..dots' is not the name of a host"),
    ],
)
def test_an_unusable_url_is_one_clear_line(url: str, error: str) -> None:
    with pytest.raises(UsageError, match=error) as raised:
        target.find(url)
    assert "secret" not in str(raised.value)


def test_a_host_outside_ascii_is_asked_by_its_name_in_ascii() -> None:
    with planted() as server:
        where = _target("127.0.0.1", server.port, "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example")
        assert target.fetch(where, "/").status == 200
    assert where.authority == f"xn--bcher-kva.example:{server.port}"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_name_with_two_addresses_is_loaded_where_its_server_listens(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Node listens at ::1 alone if it is told `localhost`; nothing answered at 127.0.0.1, where --wait waited."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((address, 0))
        port = server.getsockname()[1]
        both = [(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))]
        found = [(family, socket.SOCK_STREAM, 6, "", where) for family, where in both]
        resolve = socket.getaddrinfo
        answer = lambda host, *how, **named: found if host == "localhost" else resolve(host, *how, **named)  # noqa: E731
        monkeypatch.setattr(socket, "getaddrinfo", answer)
        nowhere = target.find(f"http://localhost:{port}")
        assert nowhere.address == "127.0.0.1", "nobody listens, nobody asked to wait"
        with pytest.raises(TargetDownError):
            target.probe(nowhere)
        listening = threading.Timer(0.3, server.listen)
        listening.start()
        where = target.find(f"http://localhost:{port}", wait=60.0)
        listening.join()
    assert (where.address, where.family) == (address, family)


def test_anything_else_is_refused_before_a_byte_is_sent() -> None:
    for allow in (None, "192.0.2.2"):
        with pytest.raises(TargetRefusedError, match=r"--allow-target 192\.0\.2\.1"):
            target.find("http://192.0.2.1", allow=allow)


@pytest.mark.parametrize(
    ("host", "allow", "text", "error"),
    [
        # it was refused, and told to be named as it was
        ("chat.example", "Chat.Example", b"loadgen may load this host", ""),
        ("2001:db8::1", "[2001:DB8::1]", b"loadgen may load this host\n", ""),
        ("chat.example", "chat.example", b"no", " answered 200 without 'loadgen may load"),
        ("chat.example", "chat.example", None, "does not consent"),
        ("chat.example", None, b"loadgen may load this host", "--allow-target"),
    ],
)
def test_consent_is_read_from_the_target_whose_name_is_given(
    host: str, allow: str | None, text: bytes | None, error: str
) -> None:
    refused = pytest.raises(TargetRefusedError, match=error) if error else nullcontext()
    with planted(Plant(consent=text)) as server, refused:
        target._demand_consent(_target("127.0.0.1", server.port, host), allow)


def test_sources_are_loopback_addresses_one_for_each_number() -> None:
    where = _target("127.0.0.1", 80)
    special = (target.FIRST_VICTIM, target.SHARED_ADDRESS, target.SHARED_ADDRESS + 100_000)
    numbers = (*range(1_000), *range(1_000, 60_000, 101), *special)
    sources = {where.source(number) for number in numbers}
    assert len(sources) == len(numbers)
    assert all(source is not None and socket.inet_pton(socket.AF_INET, source)[0] == 127 for source in sources)
    assert all(source is not None and not source.endswith((".0", ".255")) for source in sources)
    assert _target("::1", 80).source(0) is None


def test_a_server_that_answers_nothing_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = replace(_target("127.0.0.1", listener.getsockname()[1]), tls=True)
        with pytest.raises(TargetDownError, match=r"does not speak TLS with us \(no answer in 0\.2 s\)$"):
            target.probe(where)


def test_what_this_machine_lacks_is_not_the_servers_fault() -> None:
    """Where descriptors had run out at the end of a run, its server had died: "nothing listens ... any more"."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = _target("127.0.0.1", listener.getsockname()[1])
        limits, free = resource.getrlimit(resource.RLIMIT_NOFILE), os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            assert not target.is_closed(where)
            with pytest.raises(OSError, match="Too many open files"):
                target.probe(where)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert target.is_closed(where)


async def test_another_protocol_is_no_server_of_ours() -> None:
    """Its banner was waited for a blank line, and a run said after twenty seconds that nothing was acknowledged."""
    async with answering(lambda stream: stream.send_all(b"SSH-2.0-x\r\n")) as port:
        with pytest.raises(TargetDownError, match=r"does not speak HTTP/1\.1 .*SSH-2\.0-x"):
            await trio.to_thread.run_sync(target.probe, target.find(f"http://127.0.0.1:{port}"))


def test_preflight_raises_the_soft_limit_and_says_when_the_hard_one_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(100, 5000)]
    monkeypatch.setattr("resource.getrlimit", lambda _: limits[-1])
    monkeypatch.setattr("resource.setrlimit", lambda _, pair: limits.append(pair))
    where = _target("127.0.0.1", 80)
    preflight.check(where, 30)
    assert len(limits) == 1, "enough as it is"
    preflight.check(where, 3000)
    assert limits[-1] == (5000, 5000)
    told = r"9,000 clients .* 9,064 descriptors .* 5,000.*at most 4,936.*--processes 2"
    with pytest.raises(InvalidRunError, match=told):
        preflight.check(where, 9000)
    limits.append((40, 40))
    with pytest.raises(InvalidRunError, match=r"\(ulimit -Hn 74\), since loadgen itself needs 64$"):  # "at most -24"
        preflight.check(where, 10)
    limits.append((5000, 5000))
    # victims and newcomers are in one process, however many play the crowd
    with pytest.raises(InvalidRunError, match=r"9,000 connections of victims .* 9,064 .* fewer \(--most\)$"):
        preflight.check(where, 9000, 8, probes=9000, flags=("--most", "--most"))


def test_preflight_counts_ports_where_sources_cannot_be_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (10**6, 10**6))
    preflight.check(_target("127.0.0.1", 80), 200_000)
    with pytest.raises(InvalidRunError, match="ip_local_port_range"):
        preflight.check(_target("::1", 80), 200_000)


# The distance to a target


async def test_a_slow_page_is_not_far_away() -> None:
    """An echo server whose page took 0.9 s was held with echoes after 1.1 s: it seemed that far away."""

    async def slow(stream: trio.SocketStream) -> None:
        await trio.sleep(0.5)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with answering(slow) as port:
        page = await trio.to_thread.run_sync(target.fetch, target.find(f"http://127.0.0.1:{port}"), "/")
    assert page.seconds >= 0.5
    assert 0 < page.way_seconds < 0.25


@pytest.mark.parametrize(("tls", "trips"), [(False, 2), (True, 3)])
async def test_a_get_is_two_round_trips_and_three_over_tls(
    tls: bool, trips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.net.sockets.round_trip_seconds", lambda _: 0.1)
    monkeypatch.setattr(target, "_secured", lambda plain, _: plain)

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with answering(serve) as port:
        where = replace(target.find(f"http://127.0.0.1:{port}"), tls=tls)
        page = await trio.to_thread.run_sync(target.fetch, where, "/")
    assert page.way_seconds == pytest.approx(trips * 0.1)


async def test_a_get_that_is_never_answered_is_no_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of WebSockets alone seemed five seconds away, and so an echo after two seconds was on time."""
    monkeypatch.setattr(target, "PROBE_SECONDS", 1.0)
    async with listening() as server:
        began = time.monotonic()
        page = await trio.to_thread.run_sync(target.fetch, target.find(server.url), "/")
        took = time.monotonic() - began
    assert page.status is None
    assert 0 < page.seconds <= took - 1.0, "without the wait for an answer"


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "], ids=["body", "head"])
async def test_a_page_without_end_is_given_up(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers everything with an event stream held up the reading of its /metrics for ever."""
    monkeypatch.setattr(target, "PROBE_SECONDS", 1.0)

    async def drip(stream: trio.SocketStream) -> None:
        await stream.send_all(begin)
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b".")
                await trio.sleep(0.05)

    async with answering(drip) as port:
        fetch = partial(target.fetch, target.find(f"http://127.0.0.1:{port}"), "/metrics", most_bytes=1_000_000)
        with trio.fail_after(PATIENCE):
            page = await trio.to_thread.run_sync(fetch, abandon_on_cancel=True)
    assert page.status is None
    assert page.error == "no whole answer within 1 s"


#: In a process of its own: in ours it would not be faster than its reader.
_FLOOD = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
while True:
    connection.sendall(b"HTTP/1.1 100 Continue\\r\\n\\r\\n" * 10_000)
"""


def test_a_flood_before_the_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No single read timed out, so it was read for ever."""
    monkeypatch.setattr(target, "PROBE_SECONDS", 0.2)  # all of it is work
    command = [sys.executable, "-c", _FLOOD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as flood:
        assert flood.stdout is not None
        end = threading.Timer(PATIENCE, flood.kill)
        end.start()
        try:
            page = target.fetch(target.find(f"http://127.0.0.1:{int(flood.stdout.readline())}"), "/")
        finally:
            end.cancel()
            flood.kill()
    assert page.error == "no whole answer within 0.2 s"


async def test_the_fields_of_requests_are_sent() -> None:
    async with listening() as server, trio.open_nursery() as nursery:
        fetch = partial(target.fetch, target.find(server.url), "/x", ("Cookie: a=1",))
        nursery.start_soon(trio.to_thread.run_sync, fetch)
        stream = await server.accept()
        head = bytes(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert head.startswith(b"GET /x HTTP/1.1\r\n")
    assert b"\r\nCookie: a=1\r\n" in head
