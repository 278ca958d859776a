"""X-Forwarded-For, read from the right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.protocol.proxy import MAX_HOPS, client_of


def trusted(address: str) -> bool:
    return address.startswith(("10.", "fd00:"))


@pytest.mark.parametrize(
    ("field", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 10.0.0.1", "192.0.2.7"),
        ("192.0.2.7,10.0.0.1,10.0.0.2", "192.0.2.7"),
        ("203.0.113.9, 192.0.2.7, 10.0.0.1", "192.0.2.7"),  # what he claims of himself stands further left
        ("10.0.0.9, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("192.0.2.7:5678", "192.0.2.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:5678, fd00::1", "2001:db8::7"),
        ("2001:0DB8:0::7", "2001:db8::7"),
        (" 192.0.2.7\t,  10.0.0.1 ", "192.0.2.7"),
        ("", None),
        (",", None),
        ("unknown", None),
        ("_hidden, 10.0.0.1", "10.0.0.1"),  # a proxy that does not say: as far as is known
        ("192.0.2.7, unknown", None),
        ("192.0.2.256", None),
        ("192.0.2.7, ", None),
        ("127.1", None),
        ("localhost", None),
    ],
)
def test_the_client(field: str, client: str | None) -> None:
    assert client_of(field, trusted) == client


@given(st.text(alphabet="0123456789abcdef.:[], x", max_size=60))
def test_a_client_can_write_what_it_likes(claimed: str) -> None:
    """Whatever came with the request: the proxy's own word stands to its right, and counts."""
    assert client_of(f"{claimed}, 192.0.2.7, 10.0.0.1", trusted) == "192.0.2.7"


@given(st.text(max_size=100))
def test_any_text_is_an_address_or_nothing(field: str) -> None:
    client_of(field, trusted)


@pytest.mark.parametrize("hops", [MAX_HOPS, MAX_HOPS + 1, 4000])
def test_no_more_hops_are_looked_at_than_a_chain_has(hops: int) -> None:
    """A trusted proxy that passes on 8,000 addresses of its own network cost the loop 25 ms."""
    asked = []

    def trusts(address: str) -> bool:
        asked.append(address)
        return True

    assert client_of(", ".join(["192.0.2.7"] + ["10.0.0.1"] * (hops - 1)), trusts) is not None
    assert len(asked) == MAX_HOPS
