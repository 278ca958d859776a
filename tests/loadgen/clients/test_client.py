"""How a cohort counts its clients: what comes of an attack, and whether there was one, is judged by these counters."""

import tracemalloc
from random import Random
from unittest.mock import NonCallableMock
from zlib import crc32

import pytest

from loadgen.clients.client import Attacker, Client, Stage
from loadgen.clients.cohort import Cohort, Place
from loadgen.clients.engine import Engine
from loadgen.clients.traffic import SENTENCE
from loadgen.net.timers import Wheel
from loadgen.net.wire import WireError
from loadgen.personas import registry
from loadgen.personas._websocket import Message

PLACE = Place(host="x", rooms=("a", "b"), poll_wait_seconds=1.0, random=Random(1))


class Guest(Client):
    honest = True


def _made(persona: type[Client], number: int) -> tuple[Cohort, list[Client]]:
    cohort = Cohort(
        persona="", group="", kind=persona, engine=NonCallableMock(Engine), place=PLACE, wanted=number, first_index=400
    )
    return cohort, cohort.make(number)


@pytest.mark.parametrize("persona", [Guest, Attacker])
def test_who_comes_again_has_come_once_and_is_established_twice(persona: type[Client]) -> None:
    cohort, (first, second, third) = _made(persona, 3)
    assert [first.number, third.number] == [0, 2]
    assert cohort.make(2) == []
    assert cohort.make(3) == [], "there are three still"
    for client in (first, second):
        client.born = 10.0
        cohort.count_held(client, 12.0)
    cohort.held -= 1  # the engine has closed one
    cohort.count_held(first, 11.0)
    assert (cohort.held, cohort.opened, cohort.came, cohort.peak) == (2, 3, 2, 2)
    cohort.held -= 2
    cohort.count_held(third, 12.0)
    assert (cohort.held, cohort.opened, cohort.came, cohort.peak) == (1, 4, 3, 2)
    assert cohort.handshakes.longest == (12.0 if persona.honest else None), "from the connect on"
    assert cohort.handshakes.count == (4 if persona.honest else 0)


@pytest.mark.parametrize(
    ("persona", "stage", "reason", "turned_away", "booked", "came"),
    [
        (Guest, Stage.HELD, "closed", False, "ended", 0),
        (Guest, Stage.HELD, "answered 503", True, "ended", 1),  # it had been let in
        (Guest, Stage.OPENING, "answered 503", True, "refused", 1),
        (Guest, Stage.OPENING, "answered 404", False, "failed", 0),
        (Attacker, Stage.HELD, "answered 503", True, "refused", 1),
        (Attacker, Stage.HELD, "answered 400", False, "ended", 0),
        (Attacker, Stage.CONNECTING, "connection refused", True, "refused", 0),
        (Attacker, Stage.CONNECTING, "timed out", False, "failed", 0),
    ],
)
def test_how_an_end_is_booked(
    persona: type[Client],
    stage: Stage,
    reason: str,
    turned_away: bool,
    booked: str,
    came: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that turns a client away shows that it reached the server."""
    monkeypatch.setattr("loadgen.clients.cohort.now", lambda: 30.0)
    cohort, [client] = _made(persona, 1)
    client.born = 10.0
    client.stage = stage
    cohort.count_end(client, reason, turned_away=turned_away)
    found = {name: dict(getattr(cohort, name)) for name in ("refused", "failed", "ended")}
    assert found == {name: {reason: 1} if name == booked else {} for name in found}
    assert cohort.came == came
    assert cohort.lifetime.longest == (20.0 if booked == "ended" else None)


def _told(text: str, room: str = "", offset: int = 0) -> Message:
    return Message(text=text, room=room, offset=offset)


def test_what_is_delivered_is_counted_for_each_by_its_names() -> None:
    cohort, (first, second, third) = _made(Guest, 3)
    names = ("lg-01234567 1", "lg-01234567 25", "ot-01234567 3")
    first.deliver(_told(f"{name} {SENTENCE}") for name in names)
    first.deliver([_told(f"{names[0]} {SENTENCE}~~")])
    third.deliver([_told("what others say")])
    for changed in (SENTENCE[:-1], f"{SENTENCE}~.", f"{SENTENCE}\n", f"{SENTENCE} ", ""):  # these counted, too
        third.deliver([_told(f"{names[0]} {changed}")])
    assert cohort.deliveries == 10
    assert [each.delivered for each in (first, second, third)] == [3, 0, 0]
    assert [each.checksums for each in (first, second, third)] == [
        2 * crc32(b"lg-01234567 1") + crc32(b"lg-01234567 25"),
        0,
        0,
    ]
    assert [client.room for client in (first, second, third)] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (_told(f"lg-01234567 3 {SENTENCE}", "b", 8), "another room"),
        (_told(f"lg-01234567 3 {SENTENCE}", "a", 7), "twice, or out of order"),
        (_told(f"lg-01234567 3 {SENTENCE}", "a", 6), "twice, or out of order"),
    ],
)
def test_messages_of_another_room_or_out_of_order_are_refused(wrong: Message, why: str) -> None:
    """They counted as delivered, and a server that mixed them up was held."""
    cohort, [client] = _made(Guest, 1)
    cohort.engine.responses = {}
    for offset in (5, 7):
        client.deliver([_told(f"lg-01234567 1 {SENTENCE}", "a", offset)])
    with pytest.raises(WireError, match=why):
        client.deliver([wrong])
    client.on_closed()
    client.deliver([_told(f"lg-01234567 4 {SENTENCE}", "a", 1)])  # of a server that restarted


@pytest.mark.parametrize("name", ["idle", "poll", "sse"])
def test_a_client_takes_at_most_200_bytes(name: str) -> None:
    """A long-poll with its deadline took 224: the wheel had two numbers, each an object, for every client."""
    number, wheel = 4000, Wheel[Client]()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cohort, clients = _made(registry()[name], number)
        if name == "poll":  # the others wait without a deadline
            for client in clients:
                wheel.set(client, 1000.0 + client.number / 5000)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cohort.clients) == number
    assert taken / number <= 200
