"""Behind a balancer: which proxies are trusted, and which client a connection is counted under."""

from collections.abc import Iterator
from typing import Any

import pytest

from chatserver.edge.proxied import CAP_RETRY, ForwardedFor, ProxyHandler, trusted_proxies
from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import HeadLimits, parse_head
from chatserver.reasons import Reason
from tests.support.parked import REFUSAL, Parked, ended, take
from tests.support.peers import request
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


class Balanced(Parked):
    """Connections that begin with a PROXY header, and then with a head."""

    def __init__(self) -> None:
        trusted = trusted_proxies([PROXY])
        super().__init__(head_deadline=3.0, per_ip=2, uncapped=trusted)
        self.forwarded = ForwardedFor(trusted, self.admission, refused=self.refused.append)
        handler = ProxyHandler(self.connections, self.admission, then=State.HEAD, refusals=[REFUSAL])
        self.connections.bind(State.PROXY, handler)
        self.first = lambda address: State.PROXY if trusted(address) else State.HEAD

    def _closed(self, connection: Connection, reason: Reason) -> None:
        super()._closed(connection, reason)
        self.forwarded.closed(connection)


@pytest.fixture
def it() -> Iterator[Balanced]:
    made = Balanced()
    yield made
    made.close()


def test_a_connection_counts_for_its_client_once_the_header_is_complete(it: Balanced) -> None:
    connection, peer = it.connect(address=PROXY)
    for byte in HEADER:
        assert (state_of(connection), connection.network) == (State.PROXY, PROXY)
        peer.send(bytes((byte,)))
        it.turn_over()
    assert (state_of(connection), connection.network) == (State.HEAD, CLIENT)
    assert it.admission._by_network == {CLIENT: 1}
    assert connection.inbox == b""


@pytest.mark.parametrize(
    ("source", "wire", "address", "received"),
    [
        (PROXY, HEADER + b"GET / HT", CLIENT, [b"GET / HT"]),  # later bytes belong to the next state
        (PROXY, b"PROXY UNKNOWN\r\n", PROXY, []),  # a balancer's health check counts for the balancer
        (CLIENT, HEADER, CLIENT, [HEADER]),  # a direct peer sends no header
    ],
)
def test_what_a_header_is_and_whose(it: Balanced, source: str, wire: bytes, address: str, received: Any) -> None:
    connection, peer = it.connect(address=source)
    peer.send(wire)
    it.turn_over()
    assert (connection.state, connection.address) == (State.HEAD, address)
    assert it.details("received") == received


def test_a_client_over_its_cap_is_told_and_counts_for_the_proxy(it: Balanced) -> None:
    for _ in range(2):
        assert it.admission.admit(CLIENT) is None
    connection, peer = it.connect(address=PROXY)
    peer.send(HEADER)
    it.turn_over()
    assert take(peer) == REFUSAL
    assert state_of(connection) is State.CLOSING
    assert connection.network == PROXY
    peer.close()
    it.turn_over()
    assert it.details("closed") == [Reason.REFUSED_ADDRESS]
    assert it.admission._by_network == {CLIENT: 2}


@pytest.mark.parametrize("wire", [b"GET / HTTP/1.1\r\n", b"PROXY " + b"x" * 200])
def test_bytes_that_are_no_header_close_the_connection(it: Balanced, wire: bytes) -> None:
    _, peer = it.connect(address=PROXY)
    peer.send(wire)
    it.turn_over()
    assert it.details("closed") == [Reason.PROXY_HEADER]
    assert ended(peer)


def test_the_header_has_a_total_deadline(it: Balanced) -> None:
    _, peer = it.connect(address=PROXY)
    for byte in HEADER[:29]:
        peer.send(bytes((byte,)))
        it.turn_over()
        it.turn(seconds=0.1)
    assert it.of("closed") == []
    it.turn(seconds=0.3)
    assert it.details("closed") == [Reason.PROXY_HEADER]
    assert it.admission.statistics() == {"held": 0, "addresses": 0}


# -- X-Forwarded-For --------------------------------------------------------------------------------------------------


def asks_for(it: Balanced, connection: Connection, *clients: str) -> str:
    """The address that a request with this `X-Forwarded-For` is counted under."""
    fields = {"X-Forwarded-For": ", ".join(clients)} if clients else {}
    head = parse_head(request("GET", "/", headers=fields), HeadLimits(max_bytes=4096, max_fields=20))
    it.forwarded.apply(connection, head)
    return connection.address


def test_each_request_counts_for_its_client(it: Balanced) -> None:
    """A balancer sends requests of many clients on one connection; the client of the latest request counts."""
    connection, _ = it.connect(address=PROXY)
    for client in (CLIENT, "198.51.100.2", CLIENT):
        assert asks_for(it, connection, client) == client
        assert it.admission._by_network == {client: 1}
    assert asks_for(it, connection) == PROXY, "a request of the proxy itself"
    assert asks_for(it, connection, "203.0.113.66", CLIENT) == CLIENT, "the last address that is not a proxy's"
    it.connections.close(connection, Reason.DONE)
    assert it.admission.statistics() == {"held": 0, "addresses": 0}
    assert it.forwarded._proxy_of == {}
    liar, _ = it.connect(address="203.0.113.7")
    assert asks_for(it, liar, CLIENT) == "203.0.113.7"


def test_a_client_over_its_cap_is_refused_and_the_connection_lives(it: Balanced) -> None:
    first, second, third = (it.connect(address=PROXY)[0] for _ in range(3))
    asks_for(it, first, CLIENT)
    asks_for(it, second, CLIENT)
    with pytest.raises(HttpError) as refused:
        asks_for(it, third, CLIENT)
    assert refused.value.reason is Reason.REFUSED_ADDRESS
    assert dict(refused.value.headers)["Retry-After"] == str(CAP_RETRY)
    assert it.refused == [Reason.REFUSED_ADDRESS]
    assert (third.alive, third.address) == (True, PROXY)
    assert asks_for(it, third, "198.51.100.2") == "198.51.100.2"
