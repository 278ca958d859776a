"""Requests of moderators: networks in the form in which the server counts them. Refusals: tests/api."""

import msgspec
import pytest

from chatserver.chat.principal import NUMBER_BITS, guest
from chatserver.net.connection import network_of
from chatserver.protocol.errors import MessageError
from chatserver.protocol.moderation import (
    MAX_REASON_CHARS,
    MAX_SECONDS,
    KickBody,
    SanctionBody,
    check_network,
    decode_kick,
    decode_sanction,
)
from chatserver.protocol.validation import MAX_USER_ID_CHARS

ADDRESSES = (
    "192.0.2.1", "2001:db8::1", "::1", "fe80::1", "::ffff:192.0.2.1", "2001:db8:0:1:2:3:4:5", "0:0:0:1::5",
    "2001:0:0:1::", "64:ff9b::192.0.2.1",
)  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_becomes_the_network_of_its_connections(address: str) -> None:
    network = network_of(address)
    assert check_network(address) == check_network(f" {network} ") == network
    assert check_network("2001:db8::1/64") == "2001:db8::/64", "as an address is often written"


@pytest.mark.parametrize("network", ["", "localhost", "192.0.2.0/24", "::/0", "2001:db8::/48", "1.2.3.4/" + "9" * 40])
def test_a_malformed_network_is_refused(network: str) -> None:
    with pytest.raises(MessageError, match="network: "):
        check_network(network)


def test_bodies_of_sanctions_and_kicks_are_checked() -> None:
    asked = b'{"kind":"ban","network":"2001:db8::1","seconds":60,"reason":"spam"}'
    assert decode_sanction(asked, "application/json; charset=utf-8") == SanctionBody(
        "ban", network="2001:db8::/64", seconds=60.0, reason="spam"
    )
    assert decode_kick(b'{"user":"u_x"}', "application/json") == KickBody("u_x", "")
    with pytest.raises(MessageError, match="'g_bob' is no guest's id; one has 15 digits"):
        decode_kick(b'{"user":"g_bob"}', "application/json")


@pytest.mark.parametrize("name", ["second", "type", "x" * 500])
def test_an_unknown_field_is_refused_by_its_name(name: str) -> None:
    """Otherwise a ban with `second` instead of `seconds` has no end."""
    body = msgspec.json.encode({"user": "u_x", name: 60})
    for decode, data in ((decode_kick, body), (decode_sanction, b'{"kind":"ban",' + body[1:])):
        with pytest.raises(MessageError, match=f"unknown field `{name[:100]}"):
            decode(data, "application/json")


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        (
            "user",
            ["u", "u" * MAX_USER_ID_CHARS, guest(2**NUMBER_BITS - 1).id],
            [
                "", "u" * (MAX_USER_ID_CHARS + 1), "a\nb", " u", "g_", "g_bob", "g_" + "A" * 15, "g_" + "0" * 16,
                guest(0).id,
            ],
        ),
        ("seconds", [1, MAX_SECONDS], [0.5, MAX_SECONDS + 1, None]),  # null: JavaScript sends it for NaN
        ("reason", ["", "x" * MAX_REASON_CHARS, None], ["x" * (MAX_REASON_CHARS + 1), "a\nb", "\0"]),
    ],
)  # fmt: skip
def test_the_most_that_is_allowed_and_one_more(field: str, allowed: list[object], refused: list[object]) -> None:
    def sanction(value: object) -> SanctionBody:
        body = msgspec.json.encode({"kind": "mute", "user": "u", field: value})
        return decode_sanction(body, "application/json")

    for value in allowed:
        sanction(value)
    for value in refused:
        with pytest.raises(MessageError, match=f"^{field}: "):
            sanction(value)
