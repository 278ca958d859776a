"""Tests of peers that vanish need the right to filter what a socket receives."""

import socket

import pytest

from loadgen.net import sockets


def _may_go_dark() -> bool:
    with socket.socket() as sock:
        try:
            sockets.deafen(sock.fileno())
        except OSError:
            return False
        return True


needs_darkness = pytest.mark.skipif(not _may_go_dark(), reason="this kernel wants CAP_NET_ADMIN for SO_ATTACH_FILTER")
