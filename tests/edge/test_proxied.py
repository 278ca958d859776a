"""Behind a balancer: which proxies are trusted, and when a connection is counted for its client.

What a header or an `X-Forwarded-For` does, over real sockets: tests/attacks/test_proxied.py.
"""

from collections.abc import Iterator

import pytest

from chatserver.edge.proxied import ProxyHandler, trusted_proxies
from chatserver.net.states import State
from chatserver.reasons import Reason
from tests.support.parked import REFUSAL, Parked, parked
from tests.support.troubled import state_of

PROXY, CLIENT = "192.0.2.9", "198.51.100.1"
HEADER = f"PROXY TCP4 {CLIENT} 192.0.2.80 40000 80\r\n".encode()


@pytest.mark.parametrize(
    ("address", "covered"),
    [
        ("10.1.2.3", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:1::9", True),
        ("2001:db8:2::9", False),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("127.0.0.1", False),
    ],
)
def test_addresses_and_networks(address: str, covered: bool) -> None:
    trusted = trusted_proxies(["10.0.0.1/8", "192.0.2.7", "2001:db8:1::/48", "fe80::/10"])
    assert trusted(address) is covered
    assert trusted(address) is covered, "the cached answer"


@pytest.fixture
def it() -> Iterator[Parked]:
    """Connections that begin with a PROXY header, and then with a head."""
    with parked(head_deadline=3.0) as made:
        handler = ProxyHandler(made.connections, made.admission, then=State.HEAD, refusals=[REFUSAL])
        made.connections.bind(State.PROXY, handler)
        made.first = lambda _: State.PROXY
        yield made


def test_a_connection_counts_for_its_client_once_the_header_is_complete(it: Parked) -> None:
    connection, peer = it.connect(address=PROXY)
    for byte in HEADER:
        assert (state_of(connection), connection.network) == (State.PROXY, PROXY)
        peer.send(bytes((byte,)))
        it.turn_over()
    assert (state_of(connection), connection.network) == (State.HEAD, CLIENT)
    assert it.admission._by_network == {CLIENT: 1}
    assert connection.inbox == b""


def test_the_header_has_a_total_deadline(it: Parked) -> None:
    _, peer = it.connect(address=PROXY)
    for byte in HEADER[:29]:
        peer.send(bytes((byte,)))
        it.turn_over()
        it.turn(seconds=0.1)
    assert it.of("closed") == []
    it.turn(seconds=0.3)
    assert it.details("closed") == [Reason.PROXY_HEADER]
    assert it.admission.statistics() == {"held": 0, "addresses": 0}
