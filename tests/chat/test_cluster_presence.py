"""The people of a room, in one process or several: compared with sets, and their cost."""

import itertools
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.chat import cluster_presence as module
from chatserver.chat import presence as presence_module
from chatserver.chat.cluster_presence import NOBODY, ClusterPresence, RemotePeople
from chatserver.chat.presence import MAX_NAMED_MEMBERS, Presence
from chatserver.chat.principal import NamedGuest, Principal
from tests.chat.test_policy import calls_in

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
USERS, PROCESSES, GRACE = 5, 3, 3
WHO = st.integers(0, USERS - 1)
Act: TypeAlias = tuple[str, tuple[Any, ...]]
ACT: st.SearchStrategy[Act] = st.one_of(
    st.tuples(st.sampled_from(["enter", "rename", "become"]), st.tuples(WHO, st.sampled_from("abc"))),
    st.tuples(st.sampled_from(["leave", "lose", "end"]), st.tuples(WHO)),
    st.tuples(  # a report of a process: names of the people there, and how many more
        st.just("hear"),
        st.tuples(
            st.integers(0, PROCESSES - 1),
            st.dictionaries(WHO, st.sampled_from("abc")),
            st.sampled_from([0, 0, 0, 0, 2]),
        ),
    ),
    st.tuples(st.sampled_from(["time", "tell"]), st.just(())),
)


class Both:
    """The people of a room and a model of them: the same acts on a presence and on plain dicts."""

    def __init__(self, *, alone: bool) -> None:
        self.noted: list[str] = []
        self.it = Presence() if alone else ClusterPresence("lobby", self.noted.append)
        self.there = [NOBODY] * PROCESSES
        self.windows: Counter[int] = Counter()
        self.leases: dict[int, int] = {}
        self.own: dict[int, str] = {}  # names of the people here
        self.latest: dict[int, str] = {}  # the latest name of each that it has here or elsewhere
        self.said: list[dict[int, str]] = [{} for _ in range(PROCESSES)]
        self.unnamed = [0] * PROCESSES
        self.now = 0

    def enter(self, user: int, name: str) -> None:
        self.it.enter(NamedGuest(user, HERE, name))
        self.leases.pop(user, None)
        self.windows[user] += 1
        self._call(user, name)

    def leave(self, user: int) -> None:
        if self.windows[user]:
            self.it.leave(user)
            self.windows[user] -= 1

    def lose(self, user: int) -> None:
        if self.windows[user]:
            self.it.leave_by(user, self.now + GRACE)
            self.windows[user] -= 1
            self.leases[user] = self.now + GRACE

    def end(self, user: int) -> None:
        assert self.it.end_lease(user) == (self.leases.pop(user, None) is not None)

    def rename(self, user: int, name: str) -> None:
        if self.windows[user]:
            self.it.change(NamedGuest(user, HERE, self.own[user]), NamedGuest(user, HERE, name))
            self.leases.pop(user, None)
            self._call(user, name)

    def become(self, user: int, name: str) -> None:
        """A connection signs in as another user."""
        if self.windows[user]:
            other = (user + 1) % USERS
            self.it.change(NamedGuest(user, HERE, self.own[user]), NamedGuest(other, HERE, name))
            self.leases.pop(other, None)
            self.windows.update({user: -1, other: 1})
            self._call(other, name)

    def time(self) -> None:
        self.now += 1
        self.it.expire(self.now)
        self.leases = {user: until for user, until in self.leases.items() if until > self.now}

    def hear(self, process: int, names: dict[int, str], unnamed: int) -> None:
        if not isinstance(self.it, ClusterPresence):
            return
        now = RemotePeople({user: NamedGuest(user, ELSEWHERE, name) for user, name in names.items()}, unnamed)
        said = (self.said[process], self.unnamed[process])
        same = self.there[process].same_as(now)
        assert same == (said == (names, unnamed))
        if same:
            return  # a repeated report is ignored
        self.it.apply_remote(self.there[process], now)
        self.there[process] = now if names or unnamed else NOBODY
        self.latest.update({user: name for user, name in names.items() if self.said[process].get(user) != name})
        self.said[process], self.unnamed[process] = names, unnamed
        for user, name in self.own.items():
            if self.latest[user] not in [said.get(user) for said in self.said]:
                self.latest[user] = name

    def _call(self, user: int, name: str) -> None:
        if self.own.get(user) != name:
            self.own[user] = self.latest[user] = name

    def forget_the_gone(self) -> None:
        self.own = {user: name for user, name in self.own.items() if self.windows[user] or user in self.leases}

    def listed(self) -> dict[int, object]:
        return {each.number: each.label for each in self.it.people()}

    def check(self) -> None:
        """Compare the people and their names."""
        everybody = set(self.own).union(*self.said)
        listed = self.listed()
        assert set(listed) == everybody
        assert len(self.it.people()) == len(everybody)
        assert len(self.it) == len(everybody) + sum(self.unnamed)
        assert [len(self.it.people(limit)) for limit in (0, 2)] == [0, min(2, len(everybody))]
        for user in range(USERS):
            person = self.it.person(user)
            assert (None if person is None else person.label) == listed.get(user)
            assert self.it.connections(user) == self.windows[user] + (user in self.leases)
            names = [said[user] for said in self.said if user in said]
            if user in self.own:
                assert listed[user] == self.latest[user]
            elif names:
                assert listed[user] in names
        assert self.it.here == len(self.own)
        assert self.it.leases == len(self.leases)
        if isinstance(self.it, ClusterPresence):
            assert {each.number: each.label for each in self.it.people_here(USERS)} == self.own
            assert len(self.it._others) <= PROCESSES


ENTER, LEAVE, TIME, TELL = ("enter", (1, "a")), ("leave", (1,)), ("time", ()), ("tell", ())


def hear(process: int, **names: str) -> Act:
    """`hear(0, u1="a")`: a report of process 0 with user 1, named "a"."""
    return "hear", (process, {int(user[1:]): name for user, name in names.items()}, 0)


def acts_of(text: str) -> list[Act]:
    """`enter1 rename1 tell`: a connection of user 1 enters and changes its name; then a notice is sent."""
    found: list[Act] = []
    for word in text.split():
        act, user = word.rstrip("01234"), int(word[-1]) if word[-1].isdigit() else None
        name = {"enter": ("a",), "rename": ("b",)}.get(act, ())
        found.append((act, () if user is None else (user, *name)))
    return found


@example([ENTER, hear(0, u1="a"), LEAVE, TELL, hear(0), TELL])  # the person leaves with the last process
@example([ENTER, hear(0, u1="a"), TELL, hear(0), TELL])  # it stays here
@example([hear(0, u1="a"), hear(1, u1="b"), TELL, hear(0), TELL])  # another name is told
@example([hear(0, u1="a"), hear(1, u1="b"), TELL, hear(0, u1="a", u2="c"), TELL])  # no notice without a change
@example([ENTER, hear(0, u1="b"), TELL, LEAVE, hear(0), TELL])
@example([ENTER, hear(0, u1="b"), ("rename", (1, "c")), TELL])  # the last name counts
@example([ENTER, hear(0, u1="b"), TELL, hear(0), TELL])  # a name goes with the connection that had it
@example([ENTER, hear(0, u1="b"), hear(1, u1="b"), TELL, hear(0), TELL, hear(1), TELL])
@example([ENTER, ("lose", (1,)), hear(0, u1="a"), TIME, TIME, TIME, TELL])  # a reload that reaches another process
@example([("hear", (0, {1: "a"}, 0)), ("hear", (2, {1: "a"}, 2)), TELL, ("hear", (2, {}, 2))])  # still named elsewhere
@example([ENTER, ENTER, ("enter", (1, "b")), hear(0, u1="a"), TELL, ENTER])  # the name shown already
@example([("hear", (0, {}, 2)), TELL, ("hear", (0, {1: "a"}, 2)), TELL])  # named now
@example(acts_of("enter1 enter1 enter1 tell leave1 leave1 tell leave1 tell"))  # present once
@example(acts_of("enter1 tell enter2 leave2 leave1 enter1 tell"))  # came and went in between
@example(acts_of("enter1 tell rename1 leave1 tell"))  # the departure under another name
@example(acts_of("enter1 tell lose1 time time enter1 tell lose1 time time time tell"))
@example(acts_of("enter1 enter1 lose1 lose1 time time time tell"))  # both end with one lease
@example(acts_of("enter1 enter1 lose1 time time time tell"))  # a window stays
@example(acts_of("enter1 enter1 lose1 tell leave1 end1 tell enter1 enter1 leave1 end1"))
@example(acts_of("enter0 enter1 enter2 tell enter3 enter4 leave4 tell"))  # the count
@example(acts_of("enter0 enter1 tell enter2 enter3 leave0 leave1 tell enter4 tell"))  # not half the names
@given(st.lists(ACT, min_size=8, max_size=60))
def test_presence_of_several_processes_agrees_with_sets(acts: list[Act]) -> None:
    for named_room, alone in itertools.product((3, MAX_NAMED_MEMBERS), (True, False)):
        compare(acts, named_room, alone=alone)


def compare(acts: list[Act], named_room: int, *, alone: bool) -> None:
    """A listener knows all people and their names unless it is told a count; so does a client that asks between."""
    both = Both(alone=alone)
    known: list[dict[int, object]] = [{}]  # what listeners know; empty after a count
    touched: set[int] = set()  # who came, went or changed names since the last notice
    may_count = must_count = False  # only the count is told
    with (
        mock.patch.object(presence_module, "MAX_NAMED_MEMBERS", named_room),
        mock.patch.object(module, "MAX_NAMED_MEMBERS", named_room),
    ):
        for act, arguments in acts:
            before, own, size, unnamed = both.listed(), dict(both.own), len(both.it), list(both.unnamed)
            both.noted.clear()
            both.it.listing = b"as it was"
            if act == "tell":
                joined, left = both.it.take_changes(both.now)
                if joined or left:
                    assert not must_count
                    assert {who.number for who in (*joined, *left)} == touched
                    for each in known:
                        each.update({who.number: who.label for who in joined})
                        for who in left:
                            each.pop(who.number, None)
                        assert each == before
                else:
                    assert may_count or not touched
                    known = [] if must_count or touched else known
                touched, may_count, must_count = set(), False, False
            else:
                getattr(both, act)(*arguments)
            both.forget_the_gone()
            both.check()
            is_noted = not alone and both.own != own
            assert bool(both.noted) == is_noted, "a report names the people here, and only after a change"
            listed = both.listed()
            changed = {user for user in {*before, *listed} if before.get(user) != listed.get(user)}
            touched |= changed
            is_small = max(size, len(both.it)) <= named_room
            if act == "tell" or (is_small and (changed or unnamed != both.unnamed)):
                assert both.it.listing is None, "a request gets the present list"
            if changed or unnamed != both.unnamed:
                most = max(size + (act == "become"), len(both.it))  # the new one enters before the old one leaves
                may_count |= most > named_room or any([*unnamed, *both.unnamed])
                must_count |= unnamed != both.unnamed or (act != "hear" and len(both.it) > named_room)
                # A newly named person may have been there unnamed.
                must_count |= act == "hear" and bool(changed) and arguments[2] > 0
            assert both.it.changed == bool(touched or must_count)
            known.append(listed)


def test_a_lease_does_not_outlive_its_room() -> None:
    """The room may leave memory while its leases are being ended; other processes learn of its end once."""
    noted: list[str] = []
    for it, left in ((Presence(), (1, [])), (ClusterPresence("lobby", noted.append), (0, ["lobby"]))):
        it.enter(Principal(1, HERE))
        it.leave_by(1, 5.0)
        noted.clear()
        for _ in range(2):
            it.end()
            assert (it.expire(9.0), it.leases, list(it.leaseholders())) == (False, 0, [])
            assert (it.here, noted) == left


def test_people_already_elsewhere_make_no_notice() -> None:
    for unnamed in (0, 5):
        there = [
            RemotePeople({user: Principal(user, ELSEWHERE) for user in users}, unnamed) for users in ({1, 2}, {2, 3})
        ]
        it = ClusterPresence("lobby", lambda name: None, there)
        assert {each.number for each in it.people()} == {1, 2, 3}
        assert (len(it), it.here, it.changed) == (3 + 2 * unnamed, 0, False)


def test_a_room_of_a_hundred_people_elsewhere_is_made_by_as_many_calls_as_one_of_two() -> None:
    """A list of rooms makes the presence of each that is not in memory: a hundred held up the loop for 25 ms."""

    def made(people: int) -> Callable[[], object]:
        there = RemotePeople({number: Principal(number, ELSEWHERE) for number in range(people)}, 0)
        return lambda: ClusterPresence("lobby", lambda name: None, [there, there])

    assert calls_in(made(100)) == calls_in(made(2))


def test_a_person_costs_the_same_with_other_processes() -> None:
    """A second entry for each person here would be a tenth of the cost of an idle connection."""
    people = [Principal(number, HERE) for number in range(10_000)]

    def bytes_each(presence: Presence) -> float:
        tracemalloc.start()
        for principal in people:
            presence.enter(principal)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size / len(people)

    assert bytes_each(ClusterPresence("lobby", lambda name: None)) - bytes_each(Presence()) < 5


def test_a_join_looks_up_only_its_own_person() -> None:
    """A hundred thousand names elsewhere are no work for joins and leaves here."""

    class Names(dict[int, Principal]):
        """A dict that fails when it is iterated."""

        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("iterated")

        items = keys = values = __iter__  # type: ignore[assignment]

    it = ClusterPresence("lobby", lambda name: None)
    it._others = (Names({1: Principal(1, ELSEWHERE)}),)
    it._more = 1
    for number in (1, 2):
        it.enter(Principal(number, HERE))
    assert len(it) == 2
    for number in (1, 2):
        it.leave(number)
    assert len(it) == 1
