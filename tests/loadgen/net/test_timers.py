import select

from hypothesis import example, given
from hypothesis import strategies as st

from loadgen.net.timers import NEVER, TICK_SECONDS, Alarms, WakeUp, Wheel, now


class Member:
    def __init__(self) -> None:
        self.due = NEVER
        self.tick = -1


def _due(wheel: Wheel[Member], moment: float) -> list[Member]:
    """Everything that is due, as the engine's turns would find it."""
    found = []
    while wheel.next_time <= moment:
        found += wheel.pop_due(moment, 2)
    return found


Steps = list[tuple[int, float, bool]]


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.1, 20) | st.just(NEVER), st.booleans())))
@example([(0, 1.0, False), (0, 3.5, False), (1, 5.0, False), (1, 1.5, True), (2, 1.0, False), (2, NEVER, True)])
def test_the_last_deadline_of_each_comes_once_and_never_early(steps: Steps) -> None:
    """However often it is put off, brought forward, cancelled, or set again after it came."""
    wheel, members, moment = Wheel[Member](), [Member() for _ in range(3)], 0.0
    wanted: dict[Member, float] = {}
    for number, seconds, looks in [*steps, *[(0, 0.0, True)] * 21]:
        if seconds:
            wanted[members[number]] = moment + seconds
            wheel.set(members[number], moment + seconds)
        if looks:
            moment += 1.0
            for member in _due(wheel, moment):
                assert wanted.pop(member) <= moment
            assert all(when > moment - 2 * TICK_SECONDS for when in wanted.values())
    assert set(wanted.values()) <= {NEVER}
    assert wheel.next_time == NEVER


def test_alarms_come_in_order() -> None:
    alarms = Alarms()
    heard: list[str] = []
    for when, name in ((2.0, "b"), (1.0, "a"), (2.0, "c")):
        alarms.add(when, lambda name=name: heard.append(name))  # type: ignore[misc]
    assert alarms.pop_due(0.5) == []
    for _, action in alarms.pop_due(2.0):
        action()
    assert heard == ["a", "b", "c"]
    assert alarms.next_time == NEVER


def test_the_wake_up_is_readable_then_and_not_before() -> None:
    wake = WakeUp()
    try:
        wake.set(now() + 3600)
        assert select.select([wake.fd], [], [], 0)[0] == []
        wake.set(now() - 1)
        assert select.select([wake.fd], [], [], 10)[0] == [wake.fd]
        wake.set(NEVER)
        assert select.select([wake.fd], [], [], 0)[0] == []
    finally:
        wake.close()
