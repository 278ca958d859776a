"""Asked of this machine's kernel, about sockets of this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from loadgen.sockets import SockDiag


@pytest.fixture
def ends() -> Iterator[SockDiag]:
    with closing(SockDiag()) as ends:
        yield ends


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listener:
        yield listener


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


def test_a_reset_end_is_closed(ends: SockDiag, listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        other, _ = listener.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
        assert ends.closed(client.fileno()) is True


def test_an_end_is_closed_also_when_nobody_listens_any_more(ends: SockDiag, listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        other, _ = listener.accept()
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
            assert 0 <= came + waiting - written <= client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), (
                "acknowledged late"
            )
        assert ends.written(client.fileno())[1] > 0, "its process is done with it, and it is not"
