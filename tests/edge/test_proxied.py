"""Behind a balancer: who may speak for others, and for whom a connection counts."""

from collections.abc import Iterator

import pytest

from chatserver.edge.proxied import CAP_RETRY, ForwardedFor, ProxyHandler, TrustedProxies
from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import Head, HeadLimits, parse_head
from chatserver.reasons import Reason
from tests.support.parked import REFUSAL, Parked, ended, take
from tests.support.peers import request
from tests.support.troubled import state_of

PROXY, CLIENT = "192.0.2.9", "198.51.100.1"


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
    proxies = TrustedProxies(["10.0.0.1/8", "192.0.2.7", "2001:db8:1::/48", "fe80::/10"])
    assert proxies.covers(address) is covered
    assert proxies.covers(address) is covered, "remembered"


def test_an_empty_list_covers_nobody() -> None:
    assert not TrustedProxies([])
    assert not TrustedProxies([]).covers("127.0.0.1")
    assert TrustedProxies(["::1"])


class Balanced(Parked):
    """Connections that begin with a PROXY header, and then with a head."""

    def __init__(self) -> None:
        proxies = TrustedProxies([PROXY])
        super().__init__(head_deadline=3.0, per_ip=2, uncapped=proxies.covers)
        self.forwarded = ForwardedFor(proxies, self.admission, refused=self.refused.append)
        handler = ProxyHandler(self.connections, self.admission, then=State.HEAD, refusals=[REFUSAL])
        self.connections.bind(State.PROXY, handler, None)
        self.connections.first = lambda address: State.PROXY if proxies.covers(address) else State.HEAD

    def _closed(self, connection: Connection, reason: Reason) -> None:
        super()._closed(connection, reason)
        self.forwarded.closed(connection)


@pytest.fixture
def it() -> Iterator[Balanced]:
    made = Balanced()
    yield made
    made.close()


def header(source: str = CLIENT) -> bytes:
    return f"PROXY TCP4 {source} 192.0.2.80 40000 80\r\n".encode()


def test_a_connection_counts_for_its_client_as_soon_as_the_header_is_here(it: Balanced) -> None:
    connection, peer = it.connect(address=PROXY)
    for byte in header():
        assert (state_of(connection), connection.network) == (State.PROXY, PROXY)
        peer.send(bytes((byte,)))
        it.turn_over()
    assert (state_of(connection), connection.network) == (State.HEAD, CLIENT)
    assert it.admission._by_network == {CLIENT: 1}
    assert connection.inbox == b""


def test_what_comes_behind_the_header_is_the_next_states(it: Balanced) -> None:
    _, peer = it.connect(address=PROXY)
    peer.send(header() + b"GET / HT")
    it.turn_over()
    assert it.details("received") == [b"GET / HT"]


def test_a_direct_peer_sends_none(it: Balanced) -> None:
    connection, peer = it.connect(address=CLIENT)
    peer.send(header())
    it.turn_over()
    assert connection.state is State.HEAD
    assert it.details("received") == [header()]


def test_a_balancers_health_check_stays_the_balancers(it: Balanced) -> None:
    connection, peer = it.connect(address=PROXY)
    peer.send(b"PROXY UNKNOWN\r\n")
    it.turn_over()
    assert (connection.state, connection.address) == (State.HEAD, PROXY)


def test_a_client_over_its_cap_is_told_and_counts_where_it_was(it: Balanced) -> None:
    for _ in range(2):
        assert it.admission.admit(CLIENT) is None
    connection, peer = it.connect(address=PROXY)
    peer.send(header())
    it.turn_over()
    assert take(peer) == REFUSAL
    assert state_of(connection) is State.CLOSING
    assert connection.network == PROXY
    peer.close()
    it.turn_over()
    assert it.details("closed") == [Reason.REFUSED_ADDRESS]
    assert it.admission._by_network == {CLIENT: 2}


@pytest.mark.parametrize("wire", [b"GET / HTTP/1.1\r\n", b"PROXY " + b"x" * 200])
def test_bytes_that_are_no_header_end_it(it: Balanced, wire: bytes) -> None:
    _, peer = it.connect(address=PROXY)
    peer.send(wire)
    it.turn_over()
    assert it.details("closed") == [Reason.PROXY_HEADER]
    assert ended(peer)


def test_the_header_has_a_total_deadline(it: Balanced) -> None:
    _, peer = it.connect(address=PROXY)
    for byte in header()[:29]:
        peer.send(bytes((byte,)))
        it.turn_over()
        it.turn(seconds=0.1)
    assert it.of("closed") == []
    it.turn(seconds=0.3)
    assert it.details("closed") == [Reason.PROXY_HEADER]
    assert it.admission.statistics() == {"held": 0, "addresses": 0}


# -- X-Forwarded-For --------------------------------------------------------------------------------------------------


def head_of(*clients: str) -> Head:
    fields = {"X-Forwarded-For": ", ".join(clients)} if clients else {}
    return parse_head(request("GET", "/", headers=fields), HeadLimits(max_bytes=4096, max_fields=20))


def behind(it: Balanced, address: str = PROXY) -> Connection:
    return it.connect(address=address)[0]


def test_each_request_counts_for_its_client(it: Balanced) -> None:
    """A balancer sends requests of many on one connection: it is the client's whose request it carries."""
    connection = behind(it)
    for client in (CLIENT, "198.51.100.2", CLIENT):
        it.forwarded.apply(connection, head_of(client))
        assert connection.address == client
        assert it.admission._by_network == {client: 1}
    it.forwarded.apply(connection, head_of())
    assert connection.address == PROXY, "a request of its own"
    it.connections.close(connection, Reason.DONE)
    assert it.admission.statistics() == {"held": 0, "addresses": 0}
    assert it.forwarded._proxy_of == {}


def test_only_what_a_trusted_proxy_added_is_believed(it: Balanced) -> None:
    connection = behind(it)
    it.forwarded.apply(connection, head_of("203.0.113.66", CLIENT))
    assert connection.address == CLIENT, "the last address that is not a proxy's"
    liar = behind(it, "203.0.113.7")
    it.forwarded.apply(liar, head_of(CLIENT))
    assert liar.address == "203.0.113.7"


def test_a_client_over_its_cap_is_refused_and_the_connection_lives(it: Balanced) -> None:
    for _ in range(2):
        it.forwarded.apply(behind(it), head_of(CLIENT))
    third = behind(it)
    with pytest.raises(HttpError) as refused:
        it.forwarded.apply(third, head_of(CLIENT))
    assert refused.value.reason is Reason.REFUSED_ADDRESS
    assert dict(refused.value.headers)["Retry-After"] == str(CAP_RETRY)
    assert it.refused == [Reason.REFUSED_ADDRESS]
    assert (third.alive, third.address) == (True, PROXY)
    it.forwarded.apply(third, head_of("198.51.100.2"))
    assert third.address == "198.51.100.2"
