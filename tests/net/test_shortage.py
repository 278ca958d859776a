"""Descriptors or kernel memory run out in accept: room is made, or the peer is told, or the listener rests."""

import errno
import os
import socket

import pytest

from chatserver.net import listener as listener_module
from chatserver.net import sockets
from chatserver.net.listener import REST_TICKS
from chatserver.reasons import Reason
from tests.support.parked import REFUSAL, Parked, ended, take

SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]


def failing(monkeypatch: pytest.MonkeyPatch, *script: int | None) -> list[int | None]:
    """Accept fails as a script says (None: it does not), and works after that. Returns what is left of the script."""
    left, real = list(script), sockets.accept

    def accept(listening: socket.socket) -> tuple[int, str]:
        number = left.pop(0) if left else None
        if number is not None:
            raise OSError(number, os.strerror(number))
        return real(listening)

    monkeypatch.setattr(sockets, "accept", accept)
    return left


def test_a_peer_that_gave_up_in_the_queue_is_no_error(door: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, errno.ECONNABORTED)
    door.knock()
    assert not door.listener.accept()
    assert (door.connections.held, door.refused) == (1, [])


def someone_idle(door: Parked) -> socket.socket:
    """A peer inside that has waited long enough to go for another."""
    peer = door.knock()
    door.listener.accept()
    door.turn(seconds=2.5)
    return peer


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_is_met_by_making_room(door: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int) -> None:
    """The newcomer is not known yet, and comes in; nobody is refused."""
    idle = someone_idle(door)
    failing(monkeypatch, shortage)
    door.knock()
    door.listener.accept()
    assert ended(idle)
    assert (door.connections.held, door.refused) == (1, [])


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_that_is_not_ours_ends_one_and_no_more(
    door: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int
) -> None:
    """One has gone, and it did not help: the next one stays. The peer is told, if that is possible."""
    door.knock()
    someone_idle(door)
    failing(monkeypatch, shortage, shortage)
    peer = door.knock()
    door.listener.accept()
    assert door.connections.held == 1
    assert take(peer) == REFUSAL
    assert door.refused == [Reason.REFUSED_DESCRIPTORS]


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_that_stays_is_waited_out(door: Parked, monkeypatch: pytest.MonkeyPatch, shortage: int) -> None:
    """Nobody can go, and not even a refusal succeeds: it rests, asks seldom, and goes on when it is over."""
    left = failing(monkeypatch, *[shortage] * 20)
    peer = door.knock()
    rests = 0
    while left:
        assert not door.listener.accept()
        assert door.listener.resting
        rests += 1
        for _ in range(REST_TICKS):
            door.listener.tick()
    assert rests == 10, "two attempts a rest: one for itself, one with the spare"
    assert door.listener._spare is not None
    door.listener.accept()
    assert door.connections.held == 1
    assert not ended(peer)


def test_the_spare_is_lost_and_comes_back(door: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its close and its return another thread took the descriptor."""
    failing(monkeypatch, errno.EMFILE)
    peer = door.knock()
    real = listener_module._open_spare
    monkeypatch.setattr(listener_module, "_open_spare", lambda: None)
    door.listener.accept()
    assert take(peer) == REFUSAL
    assert door.listener._spare is None
    door.listener.tick()
    assert door.listener._spare is None
    monkeypatch.setattr(listener_module, "_open_spare", real)
    door.listener.tick()
    assert door.listener._spare is not None


def test_a_shortage_between_two_newcomers_is_one_anew(door: Parked, monkeypatch: pytest.MonkeyPatch) -> None:
    door.knock()
    someone_idle(door)
    failing(monkeypatch, errno.EMFILE, None, errno.EMFILE, None)
    door.knock()
    door.knock()
    door.listener.accept()
    assert (door.admission.reclaimed, door.connections.held, door.refused) == (2, 2, [])
