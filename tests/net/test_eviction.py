"""Who goes when places run out: the ranking as a plain function, and the making of room on real descriptors."""

import itertools
import socket
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net import eviction as eviction_module
from chatserver.net.admission import network_of
from chatserver.net.connection import Backlog, Connection
from chatserver.net.eviction import Eviction, Kind, Waits, kind_of, rank
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.readiness import READ, WRITE
from chatserver.net.wheel import ticks
from chatserver.reasons import Reason
from tests.support.parked import Parked, ended, pair, parked, take

LIMITS = PhaseLimits()
WAITS = Waits(LIMITS)
CLAIMING = {Phase.SERVING, Phase.HELD, Phase.STREAM, Phase.OPEN, Phase.PINGED, Phase.MESSAGE}
NOW = 10_000  # tick
AFTER = 20  # ticks times crowd
FAREWELL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"
WAITING = {Phase.PROXY, Phase.TLS, Phase.HEAD, Phase.BODY, Phase.KEEPALIVE, Phase.PACED, Phase.CLOSING}
_numbers = itertools.count(1000)


def one(
    phase: Phase = Phase.HEAD, *, waited: int = 50, address: str = "192.0.2.1", inbox: bytes = b""
) -> Connection:  # fmt: skip
    """A connection that has waited so many ticks."""
    deadline = NOW + 2 + ticks(LIMITS.seconds()[phase]) - waited
    return Connection(next(_numbers), address, phase, deadline, 0, READ, inbox)


def behind(connection: Connection, *, waited: int = 50, last: Reason | None = None) -> Connection:
    """The same, under `FLUSH` for so many ticks."""
    connection.backlog = Backlog([b"x"], 0, 10, 0, last=last)
    connection.interest = WRITE
    connection.deadline = NOW + 2 + ticks(LIMITS.flush_window) - waited
    return connection


def order(*waiting: Connection) -> list[Connection]:
    """Those who may go, the worst first."""
    return [candidate.connection for candidate in reversed(rank(waiting, WAITS, tick=NOW, after=AFTER).candidates)]


# -- the ranking ------------------------------------------------------------------------------------------------------


def test_the_order_of_kinds() -> None:
    """However long the others have waited."""
    lingering, asking, idle = one(Phase.CLOSING, waited=20), one(waited=60), one(Phase.KEEPALIVE, waited=500)
    sending, taking = one(Phase.BODY, waited=90), behind(one(Phase.KEEPALIVE), waited=290)
    assert order(taking, sending, idle, asking, lingering) == [lingering, asking, idle, sending, taking]


def test_every_phase_is_one_or_the_other() -> None:
    """A new one is to be thought about: whether whoever is in it has a claim to its place."""
    assert set(Phase) == WAITING | CLAIMING
    assert {phase for phase in Phase if kind_of(one(phase)) is not None} == WAITING


@pytest.mark.parametrize("phase", sorted(CLAIMING))
def test_members_and_those_we_owe_never_go(phase: Phase) -> None:
    assert order(one(phase, waited=10_000)) == []
    assert order(behind(one(phase), waited=10_000)) == [], "nor do members that are behind: `FLUSH` judges them"


def test_who_does_not_take_the_end_of_an_answer_may_go() -> None:
    last = behind(one(Phase.SERVING), last=Reason.DONE)
    assert kind_of(last) is Kind.TAKING
    assert order(last) == [last]


def test_the_longest_goes_first() -> None:
    people = [one(waited=waited, address=f"192.0.2.{waited}") for waited in (30, 90, 60)]
    assert [each.address for each in order(*people)] == ["192.0.2.90", "192.0.2.60", "192.0.2.30"]


def test_a_crowd_goes_before_a_person() -> None:
    """The person types for 8 s, the attack has only just come, from an address that many came from."""
    person = one(waited=80, address="192.0.2.200")
    crowd = [one(waited=2, address="192.0.2.1") for _ in range(100)]
    assert order(person, *crowd)[-1] is person


def test_a_crowd_is_one_of_its_kind() -> None:
    """An office with 300 idle connections and one person who types: he is alone in that."""
    person = one(waited=80, address="192.0.2.1")
    office = [one(Phase.KEEPALIVE, waited=300, address="192.0.2.1") for _ in range(300)]
    attackers = [one(waited=10, address="192.0.2.2") for _ in range(10)]
    assert order(person, *office, *attackers)[: len(attackers) + 1] == [*reversed(attackers), person]


def test_two_to_the_64_addresses_are_one_crowd() -> None:
    person = one(waited=80, address="2001:db8:0:2::1")
    crowd = [one(waited=2, address=f"2001:db8:0:1::{number:x}") for number in range(1, 101)]
    assert order(person, *crowd)[-1] is person


def test_of_those_alike_who_has_sent_least() -> None:
    silent, begun, nearly = one(), one(inbox=b"GET /"), one(inbox=b"GET / HTTP/1.1\r\nHost: t\r\n")
    assert order(nearly, silent, begun) == [silent, begun, nearly]


def test_who_has_only_just_come_stays() -> None:
    assert order(one(waited=19)) == []
    crowd = [one(waited=1) for _ in range(19)]
    assert order(*crowd) == []
    assert len(order(*crowd, one(waited=1))) == 20, "twenty at once are not people"


def test_a_body_that_comes_has_not_waited() -> None:
    """Each KiB puts its deadline off; what is left of the span says how little of that came."""
    dripping = one(Phase.BODY, waited=60)
    flowing = one(Phase.BODY, waited=60 - 55)  # 5.5 s earned
    assert order(dripping, flowing) == [dripping]


ADDRESSES = [f"192.0.2.{number}" for number in range(4)]
ANYBODY = st.builds(
    one, st.sampled_from(Phase), waited=st.integers(-1, 200), address=st.sampled_from(ADDRESSES)
)  # fmt: skip


@given(st.lists(ANYBODY, max_size=60))
def test_ranking_keeps_its_rules(waiting: list[Connection]) -> None:
    ranking = rank(waiting, WAITS, tick=NOW, after=AFTER)
    ranked = [candidate.connection for candidate in ranking.candidates]
    assert len({each.descriptor for each in ranked}) == len(ranked)
    assert [candidate.kind for candidate in ranking.candidates] == sorted(
        (candidate.kind for candidate in ranking.candidates), reverse=True
    )
    for connection in waiting:
        kind = kind_of(connection)
        alike = [each for each in waiting if kind_of(each) is kind and each.address == connection.address]
        waited = ticks(LIMITS.seconds()[connection.phase]) - (connection.deadline - NOW - 2)
        if kind is Kind.IDLE:
            waited = max(waited, 1)
        may_go = kind is not None and waited * len(alike) >= AFTER
        assert (connection in ranked) == may_go
        if kind is not None:
            assert ranking.crowds[kind][network_of(connection.address)] == len(alike)


# -- making room ------------------------------------------------------------------------------------------------------


class House(Parked):
    """Parked connections from several addresses, and an eviction over them."""

    def __init__(self) -> None:
        super().__init__(PhaseLimits())
        self.eviction = Eviction(self.connections, PhaseLimits(), after=2.0, farewells=[FAREWELL])

    def let_in(self, address: str, *, sent: bytes = b"") -> tuple[Connection, socket.socket]:
        ours, peer = pair(small=False)
        self._peers.append(peer)
        connection = self.connections.adopt(ours.detach(), address)
        connection.inbox = sent
        return connection, peer

    def reasons(self) -> list[object]:
        return self.attendant.details("closed")


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def test_nobody_has_to_go_in_an_empty_house(house: House) -> None:
    assert not house.eviction.make_room("192.0.2.1")
    assert house.eviction.turned_away == 1


def test_the_worst_is_closed_and_no_more(house: House) -> None:
    old, old_peer = house.let_in("192.0.2.1")
    house.turn(seconds=1.0)
    young, young_peer = house.let_in("192.0.2.2")
    house.turn(seconds=3.0)
    assert house.eviction.make_room("192.0.2.3")
    assert (old.alive, young.alive) == (False, True)
    assert house.reasons() == [Reason.EVICTED]
    assert ended(old_peer), "in good order, and without a word: it had not asked"
    assert not ended(young_peer)


def test_who_had_begun_to_ask_is_told(house: House) -> None:
    _, peer = house.let_in("192.0.2.1", sent=b"GET / HT")
    house.turn(seconds=5.0)
    assert house.eviction.make_room("192.0.2.3")
    assert take(peer) == FAREWELL
    assert ended(peer)


def test_who_had_sent_a_head_is_told(house: House) -> None:
    connection, peer = house.let_in("192.0.2.1")
    house.connections.enter(connection, Phase.BODY)
    house.turn(seconds=5.0)
    assert house.eviction.make_room("192.0.2.3")
    assert take(peer) == FAREWELL


def test_who_only_lingers_has_had_its_end(house: House) -> None:
    """It counts for what it was closed for, and nothing is taken from it but the wait."""
    connection, peer = house.let_in("192.0.2.1")
    house.connections.finish(connection, Reason.HEAD_DEADLINE, b"408")
    house.turn(seconds=1.9)
    more = [house.let_in("192.0.2.1")[0] for _ in range(3)]
    for each in more:
        house.connections.finish(each, Reason.DONE)
    house.turn(seconds=0.1)
    assert house.eviction.make_room("192.0.2.3")
    assert not connection.alive
    assert house.reasons() == [Reason.HEAD_DEADLINE]
    assert take(peer) == b"408"


def test_who_does_not_take_its_answer_is_aborted(house: House) -> None:
    connection, _ = house.let_in("192.0.2.1")
    house.connections.enter(connection, Phase.KEEPALIVE)
    house.connections.send(connection, b"x" * 10_000_000)
    assert connection.backlog is not None
    house.turn(seconds=5.0)
    assert house.eviction.make_room("192.0.2.3")
    assert house.reasons() == [Reason.EVICTED]


def test_a_crowd_does_not_push_out_who_is_alone(house: House) -> None:
    """He types, and they come back again and again: they get each other's places at most, never his."""
    person, _ = house.let_in("192.0.2.200")
    for _ in range(10):
        house.let_in("192.0.2.1")
    for _ in range(80):
        house.turn(seconds=0.1)
        while house.eviction.make_room("192.0.2.1"):
            house.let_in("192.0.2.1")
    assert person.alive
    assert house.connections.held == 11
    assert house.attendant.of("closed")


def test_who_comes_alone_finds_a_place_whatever_the_crowd_does(house: House) -> None:
    """The crowd replaces its own as fast as it may; there is always one that has been there for a tick."""
    for _ in range(40):
        house.let_in("192.0.2.1")
    for number in range(100):
        house.turn(seconds=0.1)
        while house.eviction.make_room("192.0.2.1"):
            house.let_in("192.0.2.1")
        assert house.eviction.make_room(f"198.51.100.{number}")
        house.let_in("192.0.2.1")


def test_behind_a_balancer_all_come_from_one_address(house: House) -> None:
    """There are no crowds then, and who has waited for two seconds goes for who comes."""
    everybody = [house.let_in("192.0.2.1")[0] for _ in range(10)]
    house.turn(seconds=1.8)
    assert not house.eviction.make_room("192.0.2.1")
    house.turn(seconds=0.1)
    assert house.eviction.make_room("192.0.2.1")
    assert sum(each.alive for each in everybody) == 9


def test_the_last_place_is_for_who_is_alone_as_well(house: House) -> None:
    person, _ = house.let_in("192.0.2.200")
    house.turn(seconds=8.0)
    assert house.eviction.make_room("192.0.2.7")
    assert not person.alive


def test_for_an_unknown_newcomer_the_worst_goes(house: House) -> None:
    """Out of descriptors, nobody can be asked where he comes from."""
    person, _ = house.let_in("192.0.2.200")
    house.turn(seconds=8.0)
    assert house.eviction.make_room(None)
    assert not person.alive


def test_those_who_moved_on_since_the_look_are_passed_over(house: House) -> None:
    everybody = []
    for number in range(4):
        everybody.append(house.let_in(f"192.0.2.{number}")[0])
        house.turn(seconds=2.3)
    oldest, closed, joined, youngest = everybody
    assert house.eviction.make_room("192.0.2.9")
    assert not oldest.alive
    house.connections.close(closed, Reason.PEER_CLOSED)
    house.connections.enter(joined, Phase.OPEN)
    assert house.eviction.make_room("192.0.2.9")
    assert (joined.alive, youngest.alive) == (True, False)


def test_looks_are_few(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One serves as long as it has somebody to offer; and a tick has a bound on what is looked at."""
    looks = []
    real: Callable[..., eviction_module.Ranking] = eviction_module.rank

    def counting(*arguments: object, **options: object) -> eviction_module.Ranking:
        looks.append(house.connections.wheel.current)
        return real(*arguments, **options)

    monkeypatch.setattr(eviction_module, "rank", counting)
    for number in range(20):
        house.let_in(f"192.0.2.{number}")
    house.turn(seconds=5.0)
    assert sum(house.eviction.make_room("192.0.2.99") for _ in range(20)) == 20
    assert len(looks) == 1
    assert not any(house.eviction.make_room("192.0.2.99") for _ in range(1000))
    most = eviction_module.GLANCE // len(house.connections.table) + 1
    assert len(looks) == most
    house.turn(seconds=0.1)
    assert not house.eviction.make_room("192.0.2.99")
    assert len(looks) == most + 1


def test_a_large_table_is_seen_in_turns(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look ends when it has found enough; the next one goes on from there, and comes round."""
    monkeypatch.setattr(eviction_module, "SIGHT", 4)
    monkeypatch.setattr(eviction_module, "STRIDE", 8)
    everybody = [house.let_in(f"192.0.2.{number}")[0] for number in range(40)]
    house.turn(seconds=3.0)
    for _ in range(60):
        while house.eviction.make_room("198.51.100.1"):
            pass
        house.turn(seconds=0.1)
    assert not any(each.alive for each in everybody)


def test_members_do_not_hide_those_who_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look goes through the whole table if need be: a newcomer is not refused because of where it began."""
    monkeypatch.setattr(eviction_module, "STRIDE", 4)
    monkeypatch.setattr(eviction_module, "SIGHT", 1)
    for number in range(40):
        house.connections.enter(house.let_in(f"192.0.2.{number}")[0], Phase.OPEN)
    waiting, _ = house.let_in("192.0.2.99")
    house.turn(seconds=3.0)
    assert house.eviction.make_room("192.0.2.100")
    assert not waiting.alive


def test_a_fault_of_ours_costs_the_one_who_goes() -> None:
    """The listener is under way when it happens: it must not end with it."""
    with parked() as house:
        evicting = Eviction(house.connections, PhaseLimits(), after=2.0, farewells=[FAREWELL])

        def broken(connection: Connection) -> None:
            raise RuntimeError("a bug")

        house.attendant.on["closed"] = broken
        connection, _ = house.connect()
        house.turn(seconds=5.0)
        assert evicting.make_room("192.0.2.3")
        assert not connection.alive
        assert house.connections.faults == 1


def test_nobody_is_held_on_to_when_places_are_ample_again(house: House) -> None:
    for number in range(3):
        house.let_in(f"192.0.2.{number}")
    house.turn(seconds=5.0)
    house.eviction.make_room("192.0.2.99")
    waiting = next(each for each in house.connections.table if each is not None)
    before = sys.getrefcount(waiting)
    house.eviction.forget()
    assert sys.getrefcount(waiting) == before - 1
