"""Attacks within TLS: the server's end is OpenSSL's, and what it thinks of the records is the judge."""

import ssl
from contextlib import suppress

import pytest
import trio
from wsproto import events

from loadgen.net.timers import NEVER
from loadgen.net.tls import APPLICATION_DATA, HANDSHAKE, KEY_UPDATE, Tls13, client_hello, seal
from loadgen.personas.over_tls import SlowTls
from tests.loadgen.stage import PATIENCE, WebSocket, answer, listening, meeting, playing, until
from tests.support.certificates import server_context

#: RFC 8448 section 3, "Simple 1-RTT Handshake": the client's traffic secret, and the record it sends under it.
SECRET = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
RECORD = (
    "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2"
    "977014bd1e3deae63aeebb21694915e4"
)


class _End:
    """The server's TLS, on buffers."""

    def __init__(self) -> None:
        context = server_context()
        context._msg_callback = self._note  # type: ignore[attr-defined]
        self.updates = 0  # of the client's key
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)
        self.established = False

    def _note(self, _connection: object, direction: str, *message: object) -> None:
        self.updates += direction == "read" and KEY_UPDATE in message

    def handshake(self, records: bytes) -> bytes:
        self._received.write(records)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self.established = True
        return self._to_send.read()

    def open(self, records: bytes = b"") -> bytes:
        self._received.write(records)
        data = b""
        try:
            while True:
                data += self._tls.read()
        except ssl.SSLWantReadError:
            return data

    def seal(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._to_send.read()


def _met() -> tuple[Tls13, _End]:
    client, server = Tls13(), _End()
    finished = client.handshake(server.handshake(client.handshake()))
    assert client.established
    tickets = server.handshake(finished)
    assert client.decrypted(tickets)[0] == b""
    return client, server


# The records


def test_a_record_is_that_of_the_rfc() -> None:
    sealed = seal("TLS_AES_128_GCM_SHA256", bytes.fromhex(SECRET), 0, APPLICATION_DATA, bytes(range(50)))
    assert sealed.hex() == RECORD


@pytest.mark.parametrize("suite", ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_other_suites_make_other_records(suite: str) -> None:
    sealed = seal(suite, bytes.fromhex(SECRET), 0, APPLICATION_DATA, bytes(range(50)))
    assert sealed[:5].hex() == RECORD[:10]
    assert len(sealed) == len(RECORD) // 2
    assert sealed.hex() != RECORD


@pytest.mark.parametrize("changes", [False, True], ids=["one key", "from key to key"])
def test_openssl_reads_what_was_sealed_by_hand_in_order(changes: bool) -> None:
    client, server = _met()
    for said in (b"one", b"two", bytes(5000)):
        if changes:
            assert server.open(client.seal(HANDSHAKE, KEY_UPDATE)) == b""
            client.change_key()
        assert server.open(client.seal(APPLICATION_DATA, said)) == said
        assert client.decrypted(server.seal(said))[0] == said


def test_secrets_of_two_connections_are_not_mixed_up() -> None:
    clients = [Tls13() for _ in range(2)]
    servers = [_End() for _ in clients]
    answers = [server.handshake(client.handshake()) for client, server in zip(clients, servers, strict=True)]
    for client, server, said in zip(clients, servers, answers, strict=True):
        server.handshake(client.handshake(said))
    for client, server in zip(clients, servers, strict=True):
        assert server.open(client.seal(APPLICATION_DATA, b"mine")) == b"mine"


# The personas


class _Sealed(trio.abc.Stream):
    """The server's end of a connection, within TLS."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.end = _End()

    async def handshake(self) -> None:
        while not self.end.established:
            await self.stream.send_all(self.end.handshake(await self.records()))

    async def records(self) -> bytes:
        with trio.fail_after(PATIENCE):
            return bytes(await self.stream.receive_some())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = self.end.open()
        while not data:
            data = self.end.open(await self.records())
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(self.end.seal(bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        """Not needed."""

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_slow_tls_is_a_client_hello_that_openssl_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlowTls, "every_seconds", 0.001)
    async with meeting("slow-tls") as (play, stream):
        sealed = _Sealed(stream)
        while not sealed.end.handshake(await sealed.records()):
            pass
        with trio.move_on_after(0.05):
            assert await stream.receive_some() is None, "it said something after its hello"
        await until(lambda: play.client.due == NEVER)
        assert play.cohort.held == 1


async def test_every_other_slow_tls_says_its_hello_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlowTls, "every_seconds", 600.0)
    async with listening() as server, playing(server.url, "slow-tls", clients=2) as play:
        said = [await stream.receive_some() for stream in (await server.accept(), await server.accept())]
        assert sorted(map(len, said)) == [1, len(client_hello())]
        later = [client.drop(0) for client in play.clients if isinstance(client, SlowTls)]
        assert list(map(len, later)) == [1, 0], "then nothing"
        assert play.cohort.held == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_it_joins_and_stops_in_the_middle_of_a_message_below(scheme: str) -> None:
    async with listening() as server, playing(server.url.replace("http", scheme), "tls-half-message") as play:
        sealed = _Sealed(await server.accept())
        await sealed.handshake()
        member = WebSocket(sealed)
        await member.accept()
        await member.say(type="hello")
        assert await member.hear() == {"type": "join", "id": 0, "room": "lobby"}
        assert play.cohort.held == 1
        await member.send(events.Ping(b"not answered"))
        await member.say(type="joined", id=0, room="lobby")
        assert sealed.end.open(await sealed.records()) == b""
        with pytest.raises(ssl.SSLWantReadError):
            await member.say(type="message", room="lobby", text="hello")
        assert play.cohort.answers == {"joined": 1}
        await sealed.aclose()
        await until(lambda: play.cohort.ended == {"closed": 1})


async def test_a_plain_port_is_told_from_one_that_speaks_tls() -> None:
    async with meeting("tls-half-message") as (play, stream):
        assert (await stream.receive_some()).startswith(b"\x16\x03")
        await answer(stream, 400)
        await until(lambda: play.cohort.failed)
        [reason] = play.cohort.failed
        assert reason.startswith("TLS: ")


async def test_the_key_changes_again_and_again_with_a_byte_of_a_head_between() -> None:
    async with listening() as server, playing(server.url, "tls-key-updates") as play:
        sealed, heard = _Sealed(await server.accept()), b""
        await sealed.handshake()
        while heard.count(b"x") < 100:
            heard += await sealed.receive_some()
        assert heard.startswith(b"GET / HTTP/1.1\r\n")
        assert heard.endswith(b"\r\nX-Slow: " + b"x" * (len(heard) - heard.index(b"xxx")))
        assert sealed.end.updates >= 100
        await sealed.send_all(b"HTTP/1.1 431 X\r\nConnection: close\r\n\r\n")
        await until(lambda: play.cohort.answers == {"answered 431": 1})
        await sealed.aclose()
        await until(lambda: play.cohort.ended == {"answered 431": 1})
