"""What a network is, and that networks take turns: nobody waits for more than one entry of each other network."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.fair import FairQueue
from chatserver.net.connection import network_of
from tests.support import examples

examples.load()


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
def test_what_an_address_counts_for(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.ip_addresses(v=6))
def test_two_to_the_64_addresses_are_one_network(address: object) -> None:
    network = network_of(str(address))
    assert network.endswith("/64") or ":" not in network, "or an IPv4 address in disguise"
    if network.endswith("/64"):
        assert network_of(network.removesuffix("/64")) == network


def test_networks_take_turns() -> None:
    queue = FairQueue[str]()
    for entry in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.push(entry[0], entry)
    assert len(queue) == 6
    assert [queue.pop() for _ in range(6)] == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert not queue
    with pytest.raises(IndexError):
        queue.pop()


def test_an_empty_network_is_forgotten() -> None:
    queue = FairQueue[int]()
    for number in range(1_000):
        queue.push(str(number), number)
        assert queue.pop() == number
    assert queue._lines == {}
    assert len(queue) == 0


@given(st.lists(st.one_of(st.none(), st.sampled_from("aaaaaabc")), max_size=120))
def test_against_the_plainest_model(steps: list[str | None]) -> None:
    """A push of a network, or (None) a pop: each entry once, those of one network in order, turns in between."""
    queue, lines, turns = FairQueue[tuple[str, int]](), dict[str, list[int]](), list[str]()
    for number, network in enumerate([*steps, *[None] * len(steps)]):
        if network is not None:
            queue.push(network, (network, number))
            if not lines.setdefault(network, []):
                turns.append(network)
            lines[network].append(number)
        elif turns:
            turn = turns.pop(0)
            assert queue.pop() == (turn, lines[turn].pop(0))
            if lines[turn]:
                turns.append(turn)
        assert len(queue) == sum(map(len, lines.values()))
        assert bool(queue) == bool(turns)
    assert not queue


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1), st.data())
def test_no_wait_is_longer_than_a_turn_of_every_network(crowds: dict[str, int], data: st.DataObject) -> None:
    """However many entries the others have, and push while one waits."""
    queue = FairQueue[str]()
    for network, count in crowds.items():
        for _ in range(count):
            queue.push(network, network)
    newcomer = "new"
    queue.push(newcomer, newcomer)
    popped = Counter[str]()
    while (network := queue.pop()) != newcomer:
        popped[network] += 1
        queue.push(network, network)
        for other in data.draw(st.lists(st.sampled_from(sorted(crowds)), max_size=2)):
            queue.push(other, other)
    assert max(popped.values(), default=0) <= 1
