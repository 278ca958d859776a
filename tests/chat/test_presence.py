"""Presence: a user once, leases, telling in batches, large rooms."""

from collections import Counter
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.chat import presence as presence_module
from chatserver.chat.presence import MAX_CHANGES, MAX_LISTED, MAX_NAMED_MEMBERS, NOTICE_INTERVAL, NOTICES_PER_SECOND
from chatserver.chat.principal import NamedGuest, Principal


class Presence(presence_module.Presence):
    """With numbers for people."""

    def come(self, *numbers: int) -> None:
        for number in numbers:
            self.enter(Principal(number, "192.0.2.1"))

    def users(self, limit: int = MAX_LISTED) -> list[int]:
        return [person.number for person in self.people(limit)]

    def told(self, now: float) -> tuple[list[int], list[int]]:
        joined, left = self.tell(now)
        return [person.number for person in joined], [person.number for person in left]


def test_telling_is_at_most_once_a_second_and_less_often_in_large_rooms() -> None:
    it = Presence()
    it.come(0)
    it.told(50.0)
    assert not it.may_tell(49.9 + NOTICE_INTERVAL)
    assert it.may_tell(50.0 + NOTICE_INTERVAL)
    it.come(*range(1, 5_000))
    assert not it.may_tell(49.9 + 5_000 / NOTICES_PER_SECOND), "as many as are here now have to be told"
    assert it.may_tell(50.0 + 5_000 / NOTICES_PER_SECOND)


def test_what_is_listed_and_what_changed_is_bounded() -> None:
    it = Presence()
    it.come(*range(10_000))
    assert len(it._changes or ()) <= MAX_NAMED_MEMBERS
    assert it.users(3) == [0, 1, 2]
    assert len(it.users()) == MAX_LISTED


USERS = st.integers(0, 4)
ACTS = st.lists(
    st.tuples(st.sampled_from(["window", "close", "poll", "answer", "gone", "name", "time", "tell"]), USERS),
    min_size=8,
    max_size=80,
)


def acts_of(text: str) -> list[tuple[str, int]]:
    """`poll1 time` is a poll of user 1, and time."""
    return [(word.rstrip("01234"), int(word[-1]) if word[-1].isdigit() else 0) for word in text.split()]


@example(acts_of("window1 window1 window1 tell close1 close1 tell close1 tell"), MAX_NAMED_MEMBERS)  # present once
@example(acts_of("window1 tell window2 close2 close1 window1 tell"), MAX_NAMED_MEMBERS)  # came and went in between
@example(acts_of("window1 tell name1 close1 tell"), MAX_NAMED_MEMBERS)  # another name is no reason to miss that it went
@example(acts_of("poll1 tell answer1 time time poll1 tell answer1 time time time tell"), MAX_NAMED_MEMBERS)  # bridged
@example(acts_of("poll1 poll1 answer1 answer1 time time time tell"), MAX_NAMED_MEMBERS)  # two polls end with one lease
@example(acts_of("window1 poll1 answer1 time time time tell"), MAX_NAMED_MEMBERS)  # a window stays
@example(acts_of("window1 poll1 answer1 tell close1 gone1 tell window1 window1 close1 gone1"), MAX_NAMED_MEMBERS)
@example(acts_of("window0 window1 window2 tell window3 window4 close4 tell"), 3)  # the count, whoever made it so
@example(acts_of("window0 window1 tell window2 window3 close0 close1 tell window4 tell"), 3)  # not half the names
@given(ACTS, st.sampled_from([3, MAX_NAMED_MEMBERS]))
def test_against_a_model(acts: list[tuple[str, int]], named_room: int) -> None:
    """Somebody with a window, a held poll or a lease is there.

    A client that listens knows who, unless it was told a count only; one that asks for the list at any moment does too.
    """
    it = Presence()
    windows: Counter[int] = Counter()
    polls: Counter[int] = Counter()
    leases: dict[int, int] = {}
    names: Counter[int] = Counter()
    there: set[int] = set()
    known: dict[int, object] | None = {}  # what a client knows that listens to names; None when only counts were told
    asked: list[dict[int, object]] = []  # and what those know who have asked since the last telling
    large = False  # since it was told last
    now = 0

    def come(user: int) -> None:
        it.enter(NamedGuest(user, "192.0.2.1", str(names[user])))
        leases.pop(user, None)

    with mock.patch.object(presence_module, "MAX_NAMED_MEMBERS", named_room):
        for act, user in acts:
            if act == "window":
                come(user)
                windows[user] += 1
            elif act == "close" and windows[user]:
                it.leave(user)
                windows[user] -= 1
            elif act == "poll":
                come(user)
                polls[user] += 1
            elif act == "answer" and polls[user]:
                it.leave_by(user, now + 3)
                polls[user] -= 1
                leases[user] = now + 3
            elif act == "gone":
                it.end_lease(user)
                leases.pop(user, None)
            elif act == "name":
                names[user] += 1
                person = it.person(user)
                if person is not None:
                    large = large or len(there) > named_room
                    it.change(person, NamedGuest(user, "192.0.2.1", str(names[user])))
            elif act == "time":
                now += 1
                it.expire(now)
                leases = {user: until for user, until in leases.items() if until > now}
            elif act == "tell":
                changed = it.changed
                joined, left = it.tell(now)
                if large:
                    assert joined == left == []
                    known = None
                else:
                    assert changed == bool(joined or left)
                for each in [*asked, known]:
                    if each is not None and not large:
                        each.update({who.number: who.label for who in joined})
                        for who in left:
                            each.pop(who.number, None)
                        assert each == {who.number: who.label for who in it.people()}
                asked = []
                large = False
            asked.append({who.number: who.label for who in it.people()})
            before, there = there, set(+windows) | set(+polls) | set(leases)
            large = large or (before != there and max(len(there), len(before) - 1) > named_room)
            assert set(it.users()) == there
            assert len(it) == len(there)
            assert it.leases == len(leases)


def test_so_many_come_and_go_that_only_the_count_is_told() -> None:
    it = Presence()
    it.come(0)
    it.told(1.0)
    it.listing = b"as it was"
    for number in range(1, 2 * MAX_CHANGES):
        it.come(number)
        it.leave(number)
    assert it.changed
    assert not it._changes
    assert not it.listing, "who asks gets it as it is now"
    assert it.told(2.0) == ([], [])
    it.come(1)
    assert it.told(3.0) == ([1], [])
