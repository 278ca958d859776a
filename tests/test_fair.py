"""Networks take turns, and those of one network stand in line; who counts as one network."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.fair import FairQueue, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_a_network_is_an_address_or_a_64(address: str, network: str) -> None:
    assert network_of(address) == network


def test_five_hundred_of_one_network_are_one_voice() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(500):
        queue.push("crowd", number)
    queue.push("person", -1)
    assert [queue.pop(), queue.pop()] == [0, -1]
    assert [queue.pop() for _ in range(499)] == list(range(1, 500))
    assert not queue


def test_nothing_to_pop() -> None:
    queue: FairQueue[int] = FairQueue()
    with pytest.raises(IndexError):
        queue.pop()


@given(st.lists(st.one_of(st.sampled_from("abc"), st.none()), max_size=80))
def test_against_a_model(acts: list[str | None]) -> None:
    """None pops. A network's turn comes again behind all others that wait."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    lines: dict[str, deque[tuple[str, int]]] = {}  # in the order of turns
    for number, network in enumerate(acts):
        if network is not None:
            queue.push(network, (network, number))
            lines.setdefault(network, deque()).append((network, number))
        elif lines:
            first = next(iter(lines))
            line = lines.pop(first)
            assert queue.pop() == line.popleft()
            if line:
                lines[first] = line
        assert len(queue) == sum(map(len, lines.values()))
        assert bool(queue) == bool(lines)
