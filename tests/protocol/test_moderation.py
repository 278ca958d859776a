"""Requests of moderators: networks in the form in which the server counts them. Refusals: tests/api."""

import msgspec

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
from tests.support.errors import error_of

ADDRESSES = (
    "192.0.2.1", "2001:db8::1", "::1", "fe80::1", "::ffff:192.0.2.1", "2001:db8:0:1:2:3:4:5", "0:0:0:1::5",
    "2001:0:0:1::", "64:ff9b::192.0.2.1",
)  # fmt: skip


def test_an_address_becomes_the_network_of_its_connections() -> None:
    for address in ADDRESSES:
        network = network_of(address)
        assert check_network(address) == check_network(f" {network} ") == network
    assert check_network("2001:db8::1/64") == "2001:db8::/64", "as an address is often written"


def test_a_malformed_network_is_refused() -> None:
    for network in ("", "localhost", "192.0.2.0/24", "::/0", "2001:db8::/48", "1.2.3.4/" + "9" * 40):
        assert error_of(MessageError, check_network, network).message.startswith("network: ")


def test_bodies_of_sanctions_and_kicks_are_checked() -> None:
    asked = b'{"kind":"ban","network":"2001:db8::1","seconds":60,"reason":"spam"}'
    assert decode_sanction(asked, "application/json; charset=utf-8") == SanctionBody(
        "ban", network="2001:db8::/64", seconds=60.0, reason="spam"
    )
    assert decode_kick(b'{"user":"u_x"}', "application/json") == KickBody("u_x", "")
    refused = error_of(MessageError, decode_kick, b'{"user":"g_bob"}', "application/json")
    assert "'g_bob' is no guest's id; one has 15 digits" in refused.message


def test_an_unknown_field_is_refused_by_its_name() -> None:
    """Otherwise a ban with `second` instead of `seconds` has no end."""
    for name in ("second", "type", "x" * 500):
        body = msgspec.json.encode({"user": "u_x", name: 60})
        for decode, data in ((decode_kick, body), (decode_sanction, b'{"kind":"ban",' + body[1:])):
            refused = error_of(MessageError, decode, data, "application/json")
            assert refused.message == f"{name[:100]}: unknown field"


def test_the_most_that_is_allowed_and_one_more() -> None:
    for field, allowed, refused in (
        (
            "user",
            ["u", "u" * MAX_USER_ID_CHARS, guest(2**NUMBER_BITS - 1).id],
            [
                7, "", "u" * (MAX_USER_ID_CHARS + 1), "a\nb", " u", "g_", "g_bob", "g_" + "A" * 15, "g_" + "0" * 16,
                guest(0).id,
            ],
        ),
        ("seconds", [1, MAX_SECONDS], ["60", 0.5, MAX_SECONDS + 1, None]),  # null: JavaScript sends it for NaN
        ("reason", ["", "x" * MAX_REASON_CHARS, None], ["x" * (MAX_REASON_CHARS + 1), "a\nb", "\0"]),
    ):  # fmt: skip
        for value in (*allowed, *refused):
            asked = msgspec.json.encode({"kind": "mute", "user": "u", field: value}), "application/json"
            if value in allowed:
                decode_sanction(*asked)
            else:
                assert error_of(MessageError, decode_sanction, *asked).message.startswith(f"{field}: ")
