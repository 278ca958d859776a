"""What clients ask of this machine's kernel: connections of a certain kind, and a word on the server's end."""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from loadgen.net import sockets, target
from loadgen.net.sockets import IP_BIND_ADDRESS_NO_PORT, SockDiag
from tests.support.darkness import needs_darkness


@pytest.fixture
def ends() -> Iterator[SockDiag]:
    with closing(SockDiag()) as ends:
        yield ends


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listener:
        yield listener


def test_a_connection_is_of_the_kind_that_is_asked_for(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    where = target.find(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    buffers = (socket.SOL_SOCKET, socket.SO_RCVBUF, 2048), (socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    segment = socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000
    usual, narrow = sockets.connect(where, 0), sockets.connect(where, 3, [*buffers, segment])
    with socket.socket(fileno=usual) as one, socket.socket(fileno=narrow) as other:
        for level, option, least, value in (
            (socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000, 2 * 2048),  # Linux doubles it, for its bookkeeping
            (socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * 8192 + 1, 2 * 8192),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1, 1),
        ):
            assert (one.getsockopt(level, option) >= least, other.getsockopt(level, option)) == (True, value)
        assert other.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 1000
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 10_000
        if where.spreads_sources:
            assert (one.getsockname()[0], other.getsockname()[0]) == ("127.16.0.1", "127.16.0.4")
            assert one.getsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), "or ports would be used up"


def test_a_connection_that_cannot_be_begun_is_an_error() -> None:
    """One to a broadcast address is refused by our own kernel."""
    where = replace(target.find("http://127.0.0.1"), address="255.255.255.255")
    with pytest.raises(OSError, match=r"Network is unreachable|Permission denied") as raised:
        sockets.connect(where, 0)
    assert sockets.describe(raised.value) in {"network is unreachable", "permission denied"}
    assert sockets.describe(OSError("without a number")) == "without a number"


def test_an_end_is_held_until_its_process_closes_it(ends: SockDiag, listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        assert ends.closed(client.fileno()) is False, "not accepted yet, but it will be"
        other, _ = listener.accept()
        with other:
            assert ends.closed(client.fileno()) is False
            other.shutdown(socket.SHUT_WR)
            assert ends.closed(client.fileno()) is False, "half of it"
        assert ends.closed(client.fileno()) is True


def test_an_end_that_only_sends_what_it_has_left_is_closed(ends: SockDiag, listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        other, _ = listener.accept()
        with other:
            other.setblocking(False)
            with pytest.raises(BlockingIOError):  # noqa: PT012  the block that does not fit is what is looked for
                while True:
                    other.send(b"x" * 65536)
        assert ends.closed(client.fileno()) is True


@pytest.mark.parametrize("resets", [True, False])
def test_an_end_is_closed_also_by_a_reset_and_when_nobody_listens_any_more(
    ends: SockDiag, listener: socket.socket, resets: bool
) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        other, _ = listener.accept()
        if resets:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            listener.close()
        other.close()
        assert ends.closed(client.fileno()) is True


def test_a_kernel_that_answers_nothing_is_not_believed(ends: SockDiag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "ask", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        assert ends.closed(client.fileno()) is None


def test_what_one_end_has_written_and_the_other_has_no_room_for(ends: SockDiag, listener: socket.socket) -> None:
    """Together with what has come it is all that was written, whether the writer still holds its end or not."""
    with socket.create_connection(listener.getsockname()[:2]) as client:
        other, _ = listener.accept()
        with other:
            other.sendall(b"x" * 1000)
            assert ends.written(client.fileno()) in {(1000, 0), (1000, 1000)}, "acknowledged now, or soon"
            other.setblocking(False)
            written = 1000
            with suppress(BlockingIOError):
                while True:
                    written += other.send(b"x" * 65536)
            came, waiting = ends.written(client.fileno())
            assert waiting > 0
            late = came + waiting - written  # acknowledged
            assert 0 <= late <= client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert ends.written(client.fileno())[1] > 0, "its process is done with it, and it is not"


@pytest.mark.parametrize(
    ("is_sent_before", "is_read", "crosses", "is_certain"),
    [
        (True, True, False, False),
        (True, False, True, False),
        pytest.param(False, False, True, True, marks=needs_darkness),
    ],
)
def test_what_a_program_has_read_did_not_cross_with_its_end(
    is_sent_before: bool, is_read: bool, crosses: bool, is_certain: bool,
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with socket.create_connection(listener.getsockname()[:2]) as ours:
        theirs, _ = listener.accept()
        with theirs:
            assert not sockets.is_ended(ours.fileno())
            if is_sent_before:
                ours.sendall(b"request")
                assert theirs.recv(7, 0 if is_read else socket.MSG_PEEK)
                theirs.close()
            else:  # its FIN is on the way when this is sent, and acknowledges nothing of it
                theirs.shutdown(socket.SHUT_WR)
                sockets.deafen(theirs.fileno())
                ours.sendall(b"request")
            assert sockets.is_ended(ours.fileno())
            assert sockets.has_crossed(ours.fileno()) is crosses
            assert sockets.ended_first(ours.fileno()) is is_certain
            monkeypatch.setattr(sockets, "CROSSING_SECONDS", -1.0)
            assert not sockets.has_crossed(ours.fileno()), "too long ago"
