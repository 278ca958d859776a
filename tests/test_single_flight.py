"""One question for all who ask the same at once, and none for who asks later."""

import pytest
import trio
import trio.testing

from chatserver.fair import SingleFlight

Clock = trio.testing.MockClock


class Log:
    """Answers after a second with how often it was asked, or fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.failing = False

    async def read(self) -> int:
        self.asked += 1
        asked = self.asked
        await trio.sleep(1.0)
        if self.failing:
            raise OSError(f"attempt {asked}")
        return asked


async def ask(flight: SingleFlight[str, int], log: Log, key: str, into: list[object]) -> None:
    try:
        into.append(await flight.get(key, log.read))
    except OSError as error:
        into.append(str(error))


async def test_who_asks_meanwhile_gets_the_same_and_who_asks_later_asks_anew(autojump_clock: Clock) -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    log, answers = Log(), list[object]()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask, flight, log, "a", answers)
        await trio.sleep(0.5)
        assert len(flight) == 1
        nursery.start_soon(ask, flight, log, "a", answers)
    assert answers == [1] * 101
    assert len(flight) == 0
    assert await flight.get("a", log.read) == 2


async def test_keys_do_not_share(autojump_clock: Clock) -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    log, answers = Log(), list[object]()
    async with trio.open_nursery() as nursery:
        for key in "abc":
            nursery.start_soon(ask, flight, log, key, answers)
    assert sorted(map(str, answers)) == ["1", "2", "3"]


async def test_an_error_is_everybodys(autojump_clock: Clock) -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    log, answers = Log(), list[object]()
    log.failing = True
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, flight, log, "a", answers)
    assert answers == ["attempt 1"] * 3
    log.failing = False
    assert await flight.get("a", log.read) == 2


async def test_when_the_first_is_called_off_the_next_asks(autojump_clock: Clock) -> None:
    """That was about the first one's time, not about the others'."""
    flight: SingleFlight[str, int] = SingleFlight()
    log, answers = Log(), list[object]()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5) as hurry:
            for _ in range(3):
                nursery.start_soon(ask, flight, log, "a", answers)
                await trio.testing.wait_all_tasks_blocked()
                if log.asked == 0:
                    await flight.get("a", log.read)
            await flight.get("a", log.read)
        assert hurry.cancelled_caught
    assert answers == [1] * 3
    first = SingleFlight[str, int]()
    with trio.move_on_after(0.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, first, log, "a", answers)
    assert len(first) == 0, "nothing of it is left"


async def test_followers_of_a_cancelled_first_get_one_answer(autojump_clock: Clock) -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    log, answers = Log(), list[object]()

    async def hasty() -> None:
        with trio.move_on_after(0.5):
            await flight.get("a", log.read)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hasty)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            nursery.start_soon(ask, flight, log, "a", answers)
    assert answers == [2] * 5
    assert log.asked == 2


async def test_an_empty_answer_is_an_answer(autojump_clock: Clock) -> None:
    """A page of nothing, while others wait for the same: nobody asks again."""
    flight: SingleFlight[str, list[int]] = SingleFlight()
    asked, answers = list[str](), list[list[int]]()

    async def read() -> list[int]:
        asked.append("once")
        await trio.sleep(1.0)
        return []

    async def get() -> None:
        answers.append(await flight.get("a", read))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(get)
    assert answers == [[]] * 10
    assert asked == ["once"]


async def test_a_fault_in_asking_is_not_hidden(autojump_clock: Clock) -> None:
    flight: SingleFlight[str, int] = SingleFlight()

    async def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await flight.get("a", broken)
    assert len(flight) == 0
