import select

from loadgen.timers import NEVER, TICK_SECONDS, Alarms, WakeUp, Wheel, now


class Member:
    def __init__(self) -> None:
        self.due = NEVER
        self.tick = -1


def _due(wheel: Wheel[Member], moment: float) -> list[Member]:
    """Everything that is due, as the engine's turns would find it."""
    found = []
    while wheel.next_time <= moment:
        found += wheel.pop_due(moment)
    return found


def test_a_deadline_comes_once_and_never_early() -> None:
    wheel, member = Wheel[Member](), Member()
    wheel.set(member, 10.0)
    assert _due(wheel, 9.999) == []
    assert _due(wheel, 10.0 + 2 * TICK_SECONDS) == [member]
    assert _due(wheel, 100.0) == []
    assert wheel.next_time == NEVER


def test_putting_off_is_lazy_and_leaves_one_entry() -> None:
    wheel, member = Wheel[Member](), Member()
    for when in (1.0, 2.0, 3.0):
        wheel.set(member, when)
    assert _due(wheel, 2.5) == []
    assert _due(wheel, 3.1) == [member]


def test_bringing_forward_replaces_the_later_deadline() -> None:
    wheel, member = Wheel[Member](), Member()
    wheel.set(member, 5.0)
    wheel.set(member, 1.0)
    assert _due(wheel, 1.1) == [member]
    assert _due(wheel, 6.0) == []


def test_cancelling_leaves_nothing() -> None:
    wheel, member = Wheel[Member](), Member()
    wheel.set(member, 1.0)
    wheel.set(member, NEVER)
    assert _due(wheel, 2.0) == []


def test_a_member_may_be_set_again_when_it_was_due() -> None:
    wheel, member = Wheel[Member](), Member()
    wheel.set(member, 1.0)
    assert _due(wheel, 1.1) == [member]
    wheel.set(member, 2.0)
    assert _due(wheel, 2.1) == [member]


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
