"""The wheel: no deadline is early or forgotten, and no entry is left behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.net.connection import Connection
from chatserver.net.states import State
from chatserver.net.transport import PLAIN
from chatserver.net.wheel import HORIZON, MAX_LATENESS, NAP, TICK, Wheel, spans, ticks
from chatserver.settings.fields import Settings
from tests.support.parked import next_tick


class Table:
    """A wheel over a table of connections, and a clock that the test moves."""

    def __init__(self) -> None:
        self.slots: list[Connection | None] = [None] * 16
        self.wheel = Wheel(self.slots, Settings(), now=0.0)

    def put(self, descriptor: int) -> Connection:
        connection = Connection(descriptor, "192.0.2.1", PLAIN, State.HEAD, 0)
        self.slots[descriptor] = connection
        return connection

    def turn(self, count: int = 1) -> list[Connection]:
        """Advance by `count` ticks, each on time. Returns the expired connections."""
        expired: list[Connection] = []
        for _ in range(count):
            expired += self.wheel.turn(next_tick(self.wheel))
        return expired

    @property
    def entries(self) -> int:
        return self.wheel.statistics()["entries"]


def test_a_later_deadline_makes_no_new_entry() -> None:
    table = Table()
    connection = table.put(3)
    table.wheel.watch(connection, 10)
    for later in range(11, 500):
        table.wheel.watch(connection, later)
    assert table.entries == 1
    assert table.turn(498) == []
    assert table.turn() == [connection]


def test_short_deadlines_before_long_ones_leave_a_bounded_number_of_entries() -> None:
    """Otherwise a connection throttled for hours leaves an entry for each time until its longest deadline."""
    table = Table()
    connection = table.put(3)
    for _ in range(1_000):
        table.wheel.watch(connection, table.wheel.current + 2)
        table.turn()
        table.wheel.watch(connection, table.wheel.current + 10_000)
        table.turn()
    assert table.entries <= HORIZON // 2 + 1
    assert table.turn(9_998) == []
    assert table.turn() == [connection], "the last deadline holds"


def test_a_moment_means_a_tick() -> None:
    assert ticks(0.001) == 1
    assert ticks(10.0) == 100


def test_a_stall_shifts_every_deadline() -> None:
    """A minute in which the loop stood still does not count for any deadline."""
    table = Table()
    connection = table.put(3)
    table.wheel.watch(connection, 50)
    table.turn(10)
    stalled_until = table.wheel.planned + 60.0
    table.wheel.advance(stalled_until)  # the poller's pass comes before the wheel's own task
    assert list(table.wheel.turn(stalled_until)) == [], "a stall of a minute counts as one nap"
    assert table.wheel.current == 10 + NAP
    assert next_tick(table.wheel) == pytest.approx(stalled_until + TICK), "the same minute is not counted twice"
    assert table.turn(39 - NAP) == []
    assert table.turn() == [connection]


def test_the_wheel_sleeps_until_a_deadline_and_is_woken_for_an_earlier_one() -> None:
    table = Table()
    woken: list[float] = []
    table.wheel.wake = woken.append
    assert table.wheel.plan() == pytest.approx(NAP * TICK), "nothing is due, so the wheel naps"
    for descriptor, tick in ((3, 4), (4, 4), (5, 2), (6, 90)):
        table.wheel.watch(table.put(descriptor), tick)
    assert woken == pytest.approx([4 * TICK, 2 * TICK])
    assert table.wheel.planned == table.wheel.plan() == pytest.approx(2 * TICK)


def test_small_lateness_is_caught_up() -> None:
    table = Table()
    planned = next_tick(table.wheel)
    list(table.wheel.turn(planned + MAX_LATENESS - 0.01))
    assert table.wheel.current == 2, "both ticks that have begun"
    assert next_tick(table.wheel) == pytest.approx(planned + 2 * TICK)


def test_the_tick_never_goes_back() -> None:
    """Passes of the loop are on time, but the wheel's task has no turn: its own lateness moves the clock."""
    table = Table()
    ticks = []
    for now in (1.9, 2.8, 3.5):
        table.wheel.advance(now * TICK)
        ticks.append(table.wheel.current)
    assert ticks == [1, 2, 2]


def test_due_follows_the_tick() -> None:
    table = Table()
    table.turn(7)
    expected = [7 + 1 + span for span in spans(Settings())]
    expected[State.KEEPALIVE] = 610  # 608, rounded up to the next whole second
    expected[State.STREAM] = 210
    expected[State.OPEN] = 260
    assert table.wheel.due == expected
    short = Wheel(table.slots, Settings(ping_interval=9.8, heartbeat_interval=10.0), now=0.0)
    assert (short.due[State.OPEN], short.due[State.STREAM]) == (99, 110), "short ones are not rounded up"


def test_others_may_close_or_change_state_between_two_expiries() -> None:
    table = Table()
    first, second, third = table.put(1), table.put(2), table.put(3)
    for connection in (first, second, third):
        table.wheel.watch(connection, 5)
    table.turn(4)
    expiring = table.wheel.turn(next_tick(table.wheel))
    assert next(expiring) is first
    table.wheel.watch(first, table.wheel.current + 1)
    table.slots[2] = None
    newcomer = table.put(2)
    table.wheel.watch(newcomer, table.wheel.current + 1)
    assert list(expiring) == [third]
    assert table.turn() == [first, newcomer]


#: Events of a tick for some of four descriptors: a new connection, a new deadline, a close.
STEP = st.tuples(st.integers(0, 3), st.sampled_from(["open", "watch", "close"]), st.integers(1, 12))


@given(st.lists(st.lists(STEP, max_size=3), min_size=10, max_size=60))
def test_against_a_simple_model(steps: list[list[tuple[int, str, int]]]) -> None:
    """Each tick yields each connection whose deadline it is exactly once; at the end no entry is left."""
    table = Table()
    deadlines: dict[int, int] = {}
    for step in [*steps, *([[]] * 13)]:
        for descriptor, action, span in step:
            connection = table.slots[descriptor]
            if action == "close":
                table.slots[descriptor] = None
                deadlines.pop(descriptor, None)
            else:
                if action == "open" or connection is None:
                    connection = table.put(descriptor)
                deadlines[descriptor] = table.wheel.current + span
                table.wheel.watch(connection, deadlines[descriptor])
        expired = sorted(connection.descriptor for connection in table.turn())
        now = table.wheel.current
        assert expired == sorted(descriptor for descriptor, due in deadlines.items() if due == now)
        deadlines = {descriptor: due for descriptor, due in deadlines.items() if due != now}
    assert deadlines == {}
    assert table.entries == 0
    assert table.wheel.statistics()["slots"] == 0
