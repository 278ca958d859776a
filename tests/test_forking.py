"""The processes that tests fork behave like those that the system starts."""

import socket
import subprocess
import sys

from tests.support.forking import Forked


def test_a_process_that_has_just_ended_may_be_killed() -> None:
    """A kill between the end of a process and the report of it must not fail."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    ours, its = socket.socketpair()
    with its:
        forked = Forked(child.pid, ours)
        forked.kill()
        its.send((3).to_bytes(8, "big", signed=True))
        assert forked.wait() == 3
    forked.kill()
