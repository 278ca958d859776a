"""Readiness is one-shot, and no event is lost between a report and the next arming.

The same holds for the class of macOS, over a model of kqueue. `TEST_READINESS=kqueue pytest tests/net tests/fuzz` runs
whole servers over it.
"""

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from chatserver.net.poller import MAX_EVENTS
from chatserver.net.readiness import READ, RESET, WRITE, Readiness
from tests.support import kqueue
from tests.support.parked import pair, reset, tcp_pair


@pytest.fixture(params=["of this system", "macOS", "FreeBSD"])
def readiness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Readiness]:
    monkeypatch.setattr(kqueue.Kqueue, "of_macos", request.param == "macOS")
    kind = Readiness if request.param == "of this system" else kqueue.on_macos().Readiness
    with closing(kind()) as made:
        yield made


def test_it_reports_at_most_the_requested_number_and_loses_none(readiness: Readiness) -> None:
    pairs = [pair() for _ in range(5)]
    with ExitStack() as stack:
        for ours, peer in pairs:
            stack.enter_context(ours)
            stack.enter_context(peer)
            readiness.add(ours.fileno(), READ)
            peer.send(b"x")
        first = readiness.ready(2)
        assert len(first) == 2
        rest = readiness.ready(MAX_EVENTS)
        assert {descriptor for descriptor, _ in first + rest} == {ours.fileno() for ours, _ in pairs}
        assert len(rest) == 3, "each once"


def test_it_reports_once_until_it_is_armed_again(readiness: Readiness) -> None:
    ours, peer = pair()
    with ours, peer:
        readiness.add(ours.fileno(), READ)
        assert readiness.ready(5) == []
        peer.send(b"x")
        assert readiness.ready(5) == [(ours.fileno(), READ)]
        peer.send(b"y")
        assert readiness.ready(5) == [], "only an armed connection is reported"
        for interest in (READ, WRITE):
            readiness.arm(ours.fileno(), interest)
            assert readiness.ready(5) == [(ours.fileno(), interest)]
        peer.shutdown(socket.SHUT_WR)
        ours.recv(5)
        readiness.arm(ours.fileno(), 0)
        assert readiness.ready(5) == [], "a FIN is for those that read"
        readiness.arm(ours.fileno(), READ)
        assert readiness.ready(5) == [(ours.fileno(), READ)]


@pytest.mark.parametrize("before", [READ, WRITE, 0])
def test_with_no_interest_a_reset_is_reported_and_nothing_else(readiness: Readiness, before: int) -> None:
    """A handler may change a connection's state while an earlier interest of it is still armed, or its event waits."""
    ours, peer = tcp_pair()
    with ours:
        readiness.add(ours.fileno(), before)
        peer.send(b"x")
        readiness.arm(ours.fileno(), 0)
        assert [events for _, events in readiness.ready(5) if events != before] == []
        readiness.arm(ours.fileno(), 0)
        peer.send(b"y")
        assert readiness.ready(5) == []
        reset(peer)
        assert is_readable(readiness)
        [(descriptor, events)] = readiness.ready(5)
        assert descriptor == ours.fileno()
        assert events & (READ | WRITE | RESET) == RESET


def test_without_interest_neither_much_that_is_sent_nor_an_end_is_reported(readiness: Readiness) -> None:
    """And the poller does not spin. macOS fires when the receive buffer is full, both systems at a FIN."""
    ours, peer = tcp_pair()
    with ours, peer:
        readiness.add(ours.fileno(), 0)
        assert peer.send(bytes(kqueue.HIGH_WATER)) == kqueue.HIGH_WATER
        assert readiness.ready(5) == []
        readiness.arm(ours.fileno(), 0)
        peer.shutdown(socket.SHUT_WR)
        assert readiness.ready(5) == []
        assert not is_readable(readiness)
        readiness.arm(ours.fileno(), READ)
        assert readiness.ready(5) == [(ours.fileno(), READ)]


@pytest.mark.parametrize("interest", [READ, WRITE])
def test_a_reset_is_reported_whatever_is_of_interest(readiness: Readiness, interest: int) -> None:
    ours, peer = tcp_pair()
    with ours:
        while interest == WRITE and not is_full(ours):
            pass
        readiness.add(ours.fileno(), interest)
        assert readiness.ready(5) == []
        reset(peer)
        [(descriptor, events)] = readiness.ready(5)
        assert descriptor == ours.fileno()
        assert events & interest
        assert events & RESET


def test_a_closed_descriptor_is_not_reported_nor_is_a_new_one_of_its_number(readiness: Readiness) -> None:
    ours, peer = pair()
    with peer:
        number = ours.fileno()
        readiness.add(number, READ)
        peer.send(b"x")
        ours.close()
        assert readiness.ready(5) == []
        other, another = pair()
        with other, another:
            assert other.fileno() == number
            another.send(b"x")
            assert readiness.ready(5) == []
            readiness.add(number, READ)
            assert readiness.ready(5) == [(number, READ)]


def is_full(ours: socket.socket) -> bool:
    try:
        ours.send(bytes(1 << 16))
    except BlockingIOError:
        return True
    return False


def is_readable(readiness: Readiness) -> bool:
    return bool(select.select([readiness.fileno()], [], [], 0)[0])


def test_it_is_woken_once(readiness: Readiness) -> None:
    assert not is_readable(readiness)
    for _ in range(2):
        readiness.wake()
        readiness.wake()
        assert is_readable(readiness)
        assert len(readiness.ready(5)) <= 1, "epoll reports it as an event of a descriptor that is no connection's"
        assert not is_readable(readiness)
        assert readiness.ready(5) == []
