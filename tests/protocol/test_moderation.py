"""What a moderator sends: networks in the form in which the server counts them; tests/api has the refusals."""

import pytest

from chatserver.net.connection import network_of
from chatserver.protocol.errors import MessageError
from chatserver.protocol.moderation import KickBody, SanctionBody, check_network, decode_kick, decode_sanction

ADDRESSES = (
    "192.0.2.1", "2001:db8::1", "::1", "fe80::1", "::ffff:192.0.2.1", "2001:db8:0:1:2:3:4:5", "0:0:0:1::5",
    "2001:0:0:1::", "64:ff9b::192.0.2.1",
)  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_the_network_that_its_connections_are_counted_under(address: str) -> None:
    network = network_of(address)
    assert check_network(address) == check_network(f" {network} ") == network


@pytest.mark.parametrize("network", ["", "localhost", "192.0.2.0/24", "::/0", "2001:db8::/48", "1.2.3.4/" + "9" * 40])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(MessageError, match="network: "):
        check_network(network)


def test_bodies() -> None:
    asked = b'{"kind":"ban","network":"2001:db8::1","seconds":60,"reason":"spam","new":1}'
    assert decode_sanction(asked, "application/json; charset=utf-8") == SanctionBody(
        "ban", network="2001:db8::/64", seconds=60.0, reason="spam"
    )
    assert decode_kick(b'{"user":"u_x"}', "application/json") == KickBody("u_x", "")
