"""A clock that jumps: the probes' two minutes take seconds.

Server and prober are tasks of one trio loop on loopback sockets, so there is nobody outside to wait for. The threshold
gives the kernel a moment to hand over what was sent; a jump that comes too early all the same is LAG_EVERY at most.
"""

import pytest
from trio.testing import MockClock


@pytest.fixture
def jumping_clock() -> MockClock:
    return MockClock(autojump_threshold=0.001)
