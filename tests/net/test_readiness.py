"""Readiness is one-shot, and no event is lost between a report and the next arming."""

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from chatserver.net.poller import MAX_EVENTS
from chatserver.net.readiness import READ, WRITE, Readiness
from tests.support.parked import pair


@pytest.fixture
def readiness() -> Iterator[Readiness]:
    with closing(Readiness()) as made:
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


def test_it_is_woken_once(readiness: Readiness) -> None:
    def is_readable() -> bool:
        return bool(select.select([readiness.fileno()], [], [], 0)[0])

    assert not is_readable()
    for _ in range(2):
        readiness.wake()
        readiness.wake()
        assert is_readable()
        assert len(readiness.ready(5)) <= 1, "epoll reports it as an event of a descriptor that is no connection's"
        assert not is_readable()
        assert readiness.ready(5) == []
