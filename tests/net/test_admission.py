"""Caps by address, by /64 and in total; counts that always add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.admission import Admission, network_of
from chatserver.reasons import Reason


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::/64"),
    ],
)
def test_whom_an_address_is_counted_with(address: str, network: str) -> None:
    assert network_of(address) == network


def test_each_address_has_its_own_cap() -> None:
    admission = Admission(total=100, per_address=2)
    assert [admission.admit("192.0.2.1") for _ in range(3)] == [None, None, Reason.REFUSED_ADDRESS]
    assert admission.admit("192.0.2.2") is None
    admission.release("192.0.2.1")
    assert admission.admit("192.0.2.1") is None


def test_a_customer_with_two_to_the_64_addresses_has_one_cap() -> None:
    admission = Admission(total=100, per_address=2)
    answers = [admission.admit(f"2001:db8::{number:x}") for number in range(1, 5)]
    assert answers == [None, None, Reason.REFUSED_ADDRESS, Reason.REFUSED_ADDRESS]
    assert admission.admit("2001:db8:0:1::1") is None


def test_the_total() -> None:
    admission = Admission(total=2, per_address=0)
    assert [admission.admit("192.0.2.1") for _ in range(3)] == [None, None, Reason.REFUSED_FULL]
    assert admission.held == 2


def test_an_address_over_its_cap_is_refused_for_that() -> None:
    """Refused as full, it would have had somebody evicted, and would then not be let in all the same."""
    admission = Admission(total=2, per_address=1)
    admission.admit("192.0.2.1")
    admission.admit("192.0.2.2")
    assert admission.admit("192.0.2.1") is Reason.REFUSED_ADDRESS
    assert admission.admit("192.0.2.3") is Reason.REFUSED_FULL


def test_a_proxy_has_no_cap_and_its_clients_have() -> None:
    admission = Admission(total=100, per_address=2, uncapped=lambda address: address == "192.0.2.9")
    assert [admission.admit("192.0.2.9") for _ in range(6)] == [None] * 6
    moves = [admission.move("192.0.2.9", "192.0.2.1") for _ in range(3)]
    assert moves == [None, None, Reason.REFUSED_ADDRESS]
    assert admission.admit("192.0.2.1") is Reason.REFUSED_ADDRESS
    assert admission.move("192.0.2.1", "192.0.2.9") is None
    assert admission.move("192.0.2.9", "192.0.2.1") is None
    assert admission.statistics() == {"held": 6, "addresses": 2}
    for address in ["192.0.2.1"] * 2 + ["192.0.2.9"] * 4:
        admission.release(address)
    assert admission.statistics() == {"held": 0, "addresses": 0}


def test_a_move_within_a_network_is_none() -> None:
    admission = Admission(total=100, per_address=1)
    assert admission.admit("2001:db8::1") is None
    assert admission.move("2001:db8::1", "2001:db8::2") is None
    admission.release("2001:db8::2")
    assert admission.statistics() == {"held": 0, "addresses": 0}


def test_refused_are_not_counted_in() -> None:
    admission = Admission(total=2, per_address=1)
    admission.admit("192.0.2.1")
    admission.admit("192.0.2.1")
    assert admission.statistics() == {"held": 1, "addresses": 1}


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1"])


@given(st.lists(st.tuples(ADDRESSES, st.booleans())))
def test_counts_add_up(acts: list[tuple[str, bool]]) -> None:
    admission = Admission(total=6, per_address=3)
    inside: list[str] = []
    for address, comes in acts:
        if not comes:
            if address in inside:
                inside.remove(address)
                admission.release(address)
            continue
        alike = sum(network_of(other) == network_of(address) for other in inside)
        answer = admission.admit(address)
        assert (answer is None) == (len(inside) < 6 and alike < 3)
        if answer is None:
            inside.append(address)
    assert admission.statistics() == {"held": len(inside), "addresses": len(set(map(network_of, inside)))}
    for address in inside:
        admission.release(address)
    assert admission.statistics() == {"held": 0, "addresses": 0}
