"""Personas against a TLS server: trio's, with a certificate that nobody would trust."""

import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from wsproto import events

from loadgen.clients.client import Client, Stage
from loadgen.net import target
from loadgen.net.target import TargetDownError, UsageError
from loadgen.personas import registry, slow_http
from tests.loadgen.protocols.speaking import schedule, send
from tests.loadgen.stage import (
    DEADLINE_ANSWER,
    PATIENCE,
    Play,
    Server,
    WebSocket,
    answer,
    listening,
    playing,
    read_until,
    request_of,
    reset,
    until,
)
from tests.support.certificates import authority, server_context

OLD_SSL = sys.version_info < (3, 11, 7)


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    return server_context()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest, context: ssl.SSLContext) -> ssl.SSLContext:
    context.maximum_version = request.param
    return context


@asynccontextmanager
async def _secure_server() -> AsyncIterator[Server]:
    async with listening() as server:
        server.url = server.url.replace("http", "https")
        yield server


async def _accept(server: Server, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SSLStream(await server.accept(), context, server_side=True, https_compatible=True)
    with trio.fail_after(PATIENCE):
        await stream.do_handshake()
    return stream


@asynccontextmanager
async def accepted(
    persona: str | type[Client], context: ssl.SSLContext
) -> AsyncIterator[tuple[trio.SSLStream[trio.SocketStream], Play]]:
    """The server's end of a connection after the handshake, and the client."""
    async with _secure_server() as server, playing(server.url, persona) as play:
        yield await _accept(server, context), play


class Echo(Client):
    """Says hello, then whatever it hears."""

    __slots__ = ("heard",)

    name = "echo"
    honest = True

    def opening(self) -> bytes:
        return b"hello"

    def on_connected(self) -> None:
        self.heard = b""
        self.hold()

    def on_data(self, data: bytes) -> None:
        self.heard += data
        self.send(data)


async def test_bytes_arrive_both_ways(version: ssl.SSLContext) -> None:
    async with accepted(Echo, version) as (stream, play):
        assert await stream.receive_some() == b"hello"
        assert play.cohort.held == 1
        said = bytes(range(256)) * 1000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, said)
            assert await read_until(stream, lambda got: len(got) >= len(said)) == said
        assert play.cohort.sent_bytes > len(said)
        play.client.leave()
        assert not play.engine.links, "nothing is kept of who has gone"


async def test_the_ends_of_tls_and_of_tcp_are_ends(version: ssl.SSLContext) -> None:
    for how in ("goodbye", "fin"):
        async with accepted(Echo, version) as (stream, play):
            await stream.receive_some()
            if how == "goodbye":
                # It is not waited for, of which Debian 12's Python 3.11.2 does not tell.
                with suppress(trio.BrokenResourceError) if OLD_SSL else pytest.raises(trio.BrokenResourceError):
                    await stream.unwrap()
            else:
                await stream.transport_stream.send_eof()
            await until(lambda play=play: play.cohort.ended)  # type: ignore[misc]
            assert play.cohort.ended == {"closed": 1}


@pytest.mark.parametrize(
    ("persona", "said", "why"),
    [
        ("idle-connect", b"HTTP/1.1 400 Bad\r\n\r\n", "TLS: "),
        ("idle-connect", b"", "closed"),
        ("malformed-http", b"", "closed"),
    ],
)
async def test_nobody_is_held_before_its_handshake_which_says_why_it_fails(persona: str, said: bytes, why: str) -> None:
    async with _secure_server() as server, playing(server.url, persona) as play:
        stream = await server.accept()
        await stream.receive_some()
        assert (play.client.stage, play.cohort.held) == (Stage.OPENING, 0)
        await stream.send_all(said)
        await stream.aclose()
        await until(lambda: play.cohort.failed)
        assert [reason for reason in play.cohort.failed if reason.startswith(why)]
        assert not play.cohort.answers, "a case that was not played has no answer"


async def _ended_in_the_next_handshake(play: Play, server: Server, stream: trio.SSLStream[trio.SocketStream]) -> None:
    """The server ends the connection, and the next one before it is established."""
    reset(stream.transport_stream)
    await (await server.accept()).aclose()
    await until(lambda: play.cohort.failed)
    assert play.cohort.failed.keys() <= {"closed", "connection reset by peer"}


@pytest.mark.parametrize("name", ["slow-head", "no-close"])
async def test_an_answer_says_nothing_of_the_next_connection(
    name: str, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ended in its handshake was booked under the answer to the connection before it."""
    monkeypatch.setattr(registry()[name], "returns_seconds", 0.01)
    async with _secure_server() as server, playing(server.url, name) as play:
        stream = await _accept(server, context)
        if name == "no-close":
            socket = WebSocket(stream)
            await socket.accept()
            await socket.receive()
            await socket.send(events.CloseConnection(1007))
        else:
            await stream.send_all(DEADLINE_ANSWER)
        await until(lambda: play.cohort.answers)
        await _ended_in_the_next_handshake(play, server, stream)


async def test_a_request_that_is_due_in_a_handshake_waits_for_its_end(context: ssl.SSLContext) -> None:
    """It was sent at once, which OpenSSL refuses: a server that closes after each answer was blamed for it."""
    traffic = schedule()
    async with _secure_server() as server, playing(server.url, "request", traffic=traffic) as play:
        stream = await _accept(server, context)
        await until(lambda: play.cohort.held)
        send(traffic, 2)
        await read_until(stream, lambda got: got.endswith(b"\r\n\r\n"))
        await answer(stream, 200, b"", b"Connection: close")
        await until(lambda: play.client.stage is Stage.OPENING)
        send(traffic)
        stream = await _accept(server, context)
        for _ in range(2):
            await read_until(stream, lambda got: got.endswith(b"\r\n\r\n"))
            await answer(stream, 200)
        await until(lambda: not traffic.outstanding)
        assert (traffic.booked.acks.count, traffic.booked.errors) == (3, {})


@pytest.mark.parametrize("name", ["batch", "request"])
async def test_an_end_in_a_handshake_is_not_borne_for_ever(name: str, context: ssl.SSLContext) -> None:
    """It was taken for an end between two requests, so an honest user who was locked out connected in a loop."""
    traffic = schedule()
    async with _secure_server() as server, playing(server.url, name, traffic=traffic) as play:
        stream = await _accept(server, context)
        if name == "request":
            await until(lambda: play.cohort.held)
            send(traffic, 2)
        await read_until(stream, lambda got: got.endswith((b"\r\n\r\n", b"xx")))
        await answer(stream, 200, b"", b"Connection: close")
        await _ended_in_the_next_handshake(play, server, stream)


async def test_a_goodbye_follows_all_that_was_sent(version: ssl.SSLContext) -> None:
    async with accepted(Echo, version) as (stream, play):
        await until(lambda: play.cohort.held == 1)
        sent = 65536
        while play.client.send(b"x" * 65536):
            sent += 65536
        play.client.finish_sending()
        await read_until(stream, lambda got: len(got) >= len(b"hello") + sent)
        assert await stream.receive_some() == b"", "no truncation"
        assert play.cohort.held == 1


async def test_a_persona_that_sends_behind_its_goodbye_fails_and_the_crowd_goes_on(version: ssl.SSLContext) -> None:
    """As it does without TLS; OpenSSL's exception would have ended the process of the whole crowd."""
    async with accepted(Echo, version) as (_, play):
        await until(lambda: play.cohort.held == 1)
        play.client.finish_sending()
        assert not play.client.send(b"one thing more")
        assert [reason for reason in play.cohort.ended if reason.startswith("TLS: ")]


async def test_sips_are_sips_of_records(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sip that made no whole record was followed by the next at once: the slow reader read a record each time."""
    monkeypatch.setattr(slow_http, "SIP_EVERY_SECONDS", 0.1)
    streams = []
    async with _secure_server() as server, playing(server.url, "slow-read", clients=2) as play:
        for _ in play.clients:
            stream = await _accept(server, context)
            await read_until(stream, lambda got: got.count(b"\r\n\r\n") == slow_http.REQUESTS)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 4000)
            streams.append(stream)
        await until(lambda: play.cohort.answers == {"answered 200": 2})  # the record with the head is read whole
        before = play.cohort.received_bytes
        for stream in streams:
            await stream.send_all(b"x" * 8000)
        await until(lambda: play.cohort.received_bytes > before)
        assert play.cohort.received_bytes - before <= 4 * slow_http.SIP_BYTES
        assert play.cohort.held == 2


async def test_a_broken_record_is_no_fault_of_ours(context: ssl.SSLContext) -> None:
    async with accepted(Echo, context) as (stream, play):
        await stream.receive_some()
        await stream.transport_stream.send_all(b"this is no record at all")
        await until(lambda: play.cohort.ended)
        assert [reason for reason in play.cohort.ended if reason.startswith("TLS: ")]


# -- the wrong kind of URL --------------------------------------------------------------------------------------------


async def _probe(url: str) -> None:
    with trio.fail_after(PATIENCE):
        await trio.to_thread.run_sync(target.probe, target.find(url))


async def _talk_tls(server: Server, context: ssl.SSLContext, alert: bytes = b"") -> None:
    while True:
        stream = trio.SSLStream(await server.accept(), context, server_side=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            await stream.transport_stream.send_all(alert)
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    "alert",
    [b"", b"\x15\x03\x03\0\x02\x02\x46", b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\n"],
    ids=["silent", "alert", "nginx"],
)
async def test_a_plain_url_to_a_tls_server_is_one_clear_line(context: ssl.SSLContext, alert: bytes) -> None:
    async with listening() as server, trio.open_nursery() as nursery:
        nursery.start_soon(_talk_tls, server, context, alert)
        with pytest.raises(UsageError, match=r"^URL: .* speaks TLS: use https://127\.0\.0\.1:\d+$"):
            await _probe(server.url)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("told", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["400", "closes", "resets"])
async def test_a_tls_url_to_a_plain_server_is_one_clear_line(told: bytes | None) -> None:
    async def plain(server: Server) -> None:
        stream = await server.accept()
        await stream.receive_some()
        if told is None:
            reset(stream)
        else:
            await stream.send_all(told)
            await stream.aclose()
        stream = await server.accept()
        await request_of(stream)
        await answer(stream, 404)

    async with _secure_server() as server, trio.open_nursery() as nursery:
        nursery.start_soon(plain, server)
        with pytest.raises(UsageError, match=r"^URL: .* speaks plain HTTP, not TLS: use http://127\.0\.0\.1:\d+$"):
            await _probe(server.url)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_tls_server_that_refuses_our_handshake_speaks_tls(scheme: str) -> None:
    """It was called plain, for the 400 by which nginx answers a plain request on such a port."""

    async def refuse(server: Server) -> None:
        while True:
            stream = await server.accept()
            if (await stream.receive_some()).startswith(b"GET "):
                await answer(stream, 400)
            else:
                await stream.send_all(b"\x15\x03\x03\0\x02\x02\x28")  # fatal, handshake_failure
            await stream.aclose()

    async with listening() as server, trio.open_nursery() as nursery:
        nursery.start_soon(refuse, server)
        if scheme == "http":
            with pytest.raises(UsageError, match=r"speaks TLS: use https://"):
                await _probe(server.url)
        else:
            with pytest.raises(TargetDownError, match=r"does not speak TLS with us \(.*handshake failure\)$"):
                await _probe(server.url.replace("http", "https"))
        nursery.cancel_scope.cancel()


async def test_a_server_that_wants_a_certificate_of_its_clients_is_told_before_the_run() -> None:
    """With TLS 1.3 it says so after the handshake, and was blamed for each client that it ended."""
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority().cert_pem.bytes().decode())

    def refuse(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            context.wrap_socket(peer, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, refuse, listener)
            with pytest.raises(TargetDownError, match=r"does not speak TLS with us \(.*alert certificate required\)$"):
                await _probe(f"https://127.0.0.1:{listener.getsockname()[1]}")


async def test_a_server_that_answers_nothing_is_soon_taken_for_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was waited for twice as long as for any other answer, and nothing was said meanwhile."""
    monkeypatch.setattr(target, "PROBE_SECONDS", 2 * PATIENCE)
    monkeypatch.setattr(target, "SCHEME_SECONDS", 0.1)
    async with listening() as server:
        await _probe(server.url)
