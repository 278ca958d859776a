"""Presence: its bounds, and how often it is told. The people themselves: test_cluster_presence.py."""

from chatserver.chat import presence as presence_module
from chatserver.chat.presence import MAX_CHANGES, MAX_LISTED, MAX_NAMED_MEMBERS, NOTICE_INTERVAL, NOTICES_PER_SECOND
from chatserver.chat.principal import Principal


class Presence(presence_module.Presence):
    """A presence with numbers for people."""

    def come(self, *numbers: int) -> None:
        for number in numbers:
            self.enter(Principal(number, "192.0.2.1"))

    def users(self, limit: int = MAX_LISTED) -> list[int]:
        return [person.number for person in self.people(limit)]

    def told(self, now: float) -> tuple[list[int], list[int]]:
        joined, left = self.take_changes(now)
        return [person.number for person in joined], [person.number for person in left]


def test_presence_is_told_at_most_once_a_second_and_less_often_in_large_rooms() -> None:
    it = Presence()
    it.come(0)
    it.told(50.0)
    assert not it.may_send(49.9 + NOTICE_INTERVAL)
    assert it.may_send(50.0 + NOTICE_INTERVAL)
    it.come(*range(1, 5_000))
    assert not it.may_send(49.9 + 5_000 / NOTICES_PER_SECOND), "the interval follows the present number of people"
    it.listing = b"encoded in a millisecond"
    it.come(5_000)
    assert it.listing, "as old as the last notice"
    assert it.may_send(50.0 + 5_001 / NOTICES_PER_SECOND)
    assert it.told(90.0) == ([], [])
    assert not it.listing
    it.come(5_001)
    assert it.told(180.0) == ([], []), "a large room tells no names, however few"


def test_lists_and_changes_are_bounded() -> None:
    it = Presence()
    it.come(*range(10_000))
    assert len(it._changes or ()) <= MAX_NAMED_MEMBERS
    assert it.users(3) == [0, 1, 2]
    assert len(it.users()) == MAX_LISTED


def test_after_many_changes_only_the_count_is_told() -> None:
    it = Presence()
    it.come(0)
    it.told(1.0)
    it.listing = b"as it was"
    for number in range(1, 2 * MAX_CHANGES):
        it.come(number)
        it.leave(number)
    assert it.changed
    assert not it._changes
    assert not it.listing, "a request gets the present list"
    assert it.told(2.0) == ([], [])
    it.come(1)
    assert it.told(3.0) == ([1], [])
