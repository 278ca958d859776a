"""Epoll, or kqueue: one-shot, and nothing is lost between a report and the next arming."""

import select
import socket

from chatserver.net.poller import MAX_EVENTS
from chatserver.net.readiness import ENDED, READ, WRITE, Readiness
from tests.support.parked import pair


def test_readiness_reports_at_most_what_was_asked_and_loses_nothing() -> None:
    readiness = Readiness()
    pairs = [pair() for _ in range(5)]
    try:
        for ours, peer in pairs:
            readiness.add(ours.fileno(), READ)
            peer.send(b"x")
        first = readiness.ready(2)
        assert len(first) == 2
        rest = readiness.ready(MAX_EVENTS)
        assert {descriptor for descriptor, _ in first + rest} == {ours.fileno() for ours, _ in pairs}
        assert len(rest) == 3, "each once"
    finally:
        readiness.close()
        for ours, peer in pairs:
            ours.close()
            peer.close()


def test_readiness_reports_once_until_it_is_armed_again_and_then_what_came_meanwhile() -> None:
    readiness = Readiness()
    ours, peer = pair()
    try:
        readiness.add(ours.fileno(), READ)
        assert readiness.ready(5) == []
        peer.send(b"x")
        assert readiness.ready(5) == [(ours.fileno(), READ)]
        peer.send(b"y")
        assert readiness.ready(5) == [], "not armed means not reported, whatever comes"
        readiness.arm(ours.fileno(), READ)
        assert readiness.ready(5) == [(ours.fileno(), READ)]
        readiness.arm(ours.fileno(), WRITE)
        assert readiness.ready(5) == [(ours.fileno(), WRITE)]
        peer.shutdown(socket.SHUT_WR)
        readiness.arm(ours.fileno(), READ)
        [(_, events)] = readiness.ready(5)
        assert events & ENDED
    finally:
        readiness.close()
        ours.close()
        peer.close()


def test_readiness_is_woken_once() -> None:
    readiness = Readiness()
    try:
        assert select.select([readiness.fileno()], [], [], 0)[0] == []
        readiness.wake()
        readiness.wake()
        assert select.select([readiness.fileno()], [], [], 0)[0]
        assert readiness.ready(5) == [], "a waking is no event of anybody"
        assert select.select([readiness.fileno()], [], [], 0)[0] == []
    finally:
        readiness.close()
