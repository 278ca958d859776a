"""How a victim catches up after a stall: as fast as a user of a sound server may, and with every operation."""

from collections import Counter

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from wsproto import events

from loadgen.net import target
from loadgen.net.answers import NO_TURN, UNANSWERED
from loadgen.net.timers import now
from loadgen.protocols.chat_v1 import WebSocketVictim
from loadgen.protocols.ws_echo import EchoVictim
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import AT_ONCE, CATCH_UP, Victim
from tests.loadgen.stage import PATIENCE, WebSocket, listening, until

OVERDUE = 30


def _context(url: str) -> Context:
    context = Context(target.find(url), "run")
    context.recorder.timeout_seconds = PATIENCE
    return context


async def test_a_victim_that_is_behind_sends_some_at_once_and_then_twice_its_usual_rate() -> None:
    """It sent all at once, and a server that allows 20 messages a second was blamed for its 429s."""
    interval, begun = 0.02, list[float]()

    class Late(EchoVictim):
        async def live(self) -> None:
            self.connected()
            while True:
                number = await self.next_operation()
                begun.append(self._begun[number])
                self.book(number)

    context = _context("http://127.0.0.1:1")
    first_due = now() - OVERDUE * interval
    victim = Late(context, 0, Schedule(first_due, interval))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(victim.run)
        nursery.start_soon(context.clock.run)
        await until(lambda: len(begun) >= OVERDUE)
        nursery.cancel_scope.cancel()
    allowed = [AT_ONCE + (moment - begun[0]) * CATCH_UP / interval for moment in begun]
    assert all(number <= most for number, most in enumerate(allowed, start=1))
    [result] = context.recorder.results(Counter())
    longest = result.latency.at(100)
    assert longest is not None
    assert longest >= (OVERDUE - 1) * interval, "from when it was due"
    assert not result.failed


@pytest.mark.parametrize("kind", [WebSocketVictim, EchoVictim])
async def test_a_server_that_is_silent_is_sent_no_more_than_it_may_read_at_once(kind: type[Victim]) -> None:
    """A stopped server found all that was due meanwhile when it went on, refused what was too much, and was blamed."""

    async def answer(peer: WebSocket, number: int) -> None:
        if kind is EchoVictim:
            await peer.send(events.TextMessage(victim.text(number)))
        else:
            await peer.say(type="ack", id=number, offset=number + 1)

    async with listening() as server, trio.open_nursery() as nursery:
        victim = kind(_context(server.url), 0, Schedule(now(), 0.0001))
        nursery.start_soon(victim.run)
        peer = await server.websocket()
        if kind is WebSocketVictim:
            await peer.hear()
            await peer.say(type="joined", id=-1)
        await until(lambda: victim.is_connected)
        moment = victim.schedule.due(OVERDUE)
        victim.issue(moment)
        for _ in range(AT_ONCE):
            await peer.receive()
        for _ in range(3):
            victim.issue(moment)
            await wait_all_tasks_blocked(0.001)
        assert (victim.sent_since_reply, len(victim._begun)) == (AT_ONCE, AT_ONCE)
        await answer(peer, 0)
        await until(lambda: not victim.sent_since_reply)
        victim.issue(moment)
        await peer.receive()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_answered", [False, True])
async def test_what_waits_its_turn_is_unanswered_if_nothing_was_answered_for_the_whole_timeout(
    is_answered: bool,
) -> None:
    """After a flood of pings nobody was answered, and what waited for that was only late."""
    context = _context("http://127.0.0.1:1")
    context.recorder.timeout_seconds = 0.02
    victim = EchoVictim(context, 0, Schedule(now() + 60, 60.0))
    victim.connected()
    await trio.sleep(0.03)
    if is_answered:  # an operation that has failed meanwhile
        victim.book(-1)
    assert victim.why_pending(0) == (NO_TURN if is_answered else UNANSWERED)
