"""The ledger of the soak finds each planted fault, and names it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.soak.ledger import DELETE, EDIT, MESSAGE, REACTION, Act, Ledger, Position, Violation

EPOCH = "k3f9"


def json_of(act: Act, offset: int, **more: Any) -> dict[str, Any]:
    """A record as listeners get it."""
    found = {"offset": offset, "cursor": f"{EPOCH}-{offset}", "user": {"id": "u_1"}, "time": f"t{offset}"}
    if act.kind != MESSAGE:
        found |= {"type": act.kind, "target": act.target}
    if act.kind in (MESSAGE, EDIT):
        found["text"] = act.text
    return found | more


def said(*names: str) -> list[Act]:
    return [Act(MESSAGE, "lobby", name) for name in names]


class Played:
    """A ledger with acknowledged acts in one room, and the log that it should have."""

    def __init__(self, *acts: Act) -> None:
        self.ledger = Ledger()
        self.room = self.ledger.room("lobby")
        self.acts = acts
        self.log = [json_of(act, offset) for offset, act in enumerate(acts, 1)]
        for act, record in zip(acts, self.log, strict=True):
            self.ledger.acknowledge(act, "u_1", record)

    def check(self) -> None:
        self.ledger.check_log(self.room, self.log)

    def listener(self) -> Position:
        return Position(self.ledger, "lobby", "a listener")


@pytest.fixture
def played() -> Played:
    return Played(*said("a", "b", "c", "d"))


def test_a_correct_log_passes(played: Played) -> None:
    played.check()
    position = played.listener()
    for record in played.log:
        position.take(record)
    assert (position.at, position.cursor, played.ledger.seen) == (4, f"{EPOCH}-4", 4)


def moved(record: dict[str, Any], place: int) -> dict[str, Any]:
    return record | {"offset": place, "cursor": f"{EPOCH}-{place}"}


def lose_and_close_up(it: Played) -> None:
    del it.log[1]
    it.log = [moved(record, place) for place, record in enumerate(it.log, 1)]


def swap(it: Played) -> None:
    first, second = it.log[1:3]
    it.log[1:3] = [moved(second, 2) | {"time": first["time"]}, moved(first, 3) | {"time": second["time"]}]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(lambda it: it.log.pop(1), "3 comes after 1", id="a lost record"),
        pytest.param(lambda it: [it.log.pop(), it.log.pop()], "ends at 2, and 4 was acknowledged", id="a lost end"),
        pytest.param(lose_and_close_up, "lobby/2 is ", id="a lost record whose offset another has"),
        pytest.param(swap, "lobby/2 has c for the log, and had b", id="swapped records"),
        pytest.param(
            lambda it: it.log.append(json_of(it.acts[1], 5)), "b is at lobby/5 for the log, and also at 2", id="doubled"
        ),
        pytest.param(
            lambda it: it.log.append(json_of(it.acts[1], 5, text="", deleted=True)),
            "nobody was told of lobby/5", id="doubled and deleted",
        ),
    ],
)  # fmt: skip
def test_a_fault_in_the_log(played: Played, spoil: Callable[[Played], object], told: str) -> None:
    spoil(played)
    with pytest.raises(Violation, match=told):
        played.check()


# -- acknowledgements -------------------------------------------------------------------------------------------------

NEW = Act(MESSAGE, "lobby", "e")


def test_a_repeated_acknowledgement_of_a_key(played: Played) -> None:
    played.ledger.acknowledge(played.acts[2], "u_1", played.log[2])
    assert (played.ledger.acknowledged, played.ledger.repeated) == (4, 1)


@pytest.mark.parametrize(
    ("again", "user", "answer", "told"),
    [
        pytest.param(True, "u_1", {"offset": 5}, "c is at lobby/5 .*, and also at 3", id="a key stored twice"),
        pytest.param(
            False, "u_1", {"offset": 3}, "e and c are both acknowledged at lobby/3", id="an offset given twice"
        ),
        pytest.param(False, "u_1", {"offset": 7}, "e is at lobby/7", id="a record that others see elsewhere"),
        pytest.param(True, "u_2", {"offset": 3}, "lobby/3 is ", id="a user who becomes another"),
        pytest.param(False, "u_1", {"offset": 5, "cursor": "other-5"}, "other-5 in epoch k3f9", id="another epoch"),
    ],
)
def test_a_fault_in_an_acknowledgement(
    played: Played, again: bool, user: str, answer: dict[str, Any], told: str
) -> None:
    played.ledger.see(played.room, json_of(NEW, 6), "a listener")
    act = played.acts[2] if again else NEW
    with pytest.raises(Violation, match=told):
        played.ledger.acknowledge(act, user, json_of(act, **answer))


# -- listeners --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ([0, 2], "lobby/3 after 1, and told of no gap"),
        ([0, 1, 1], "lobby/2 again, after 2"),
        ([0, 1, 2, 1], "lobby/2 again"),
    ],
)
def test_a_listener_that_misses_a_record_or_gets_one_twice(played: Played, places: list[int], told: str) -> None:
    position = played.listener()
    *right, wrong = places
    for place in right:
        position.take(played.log[place])
    with pytest.raises(Violation, match=told):
        position.take(played.log[wrong])


def test_a_listener_that_is_told_of_a_loss(played: Played) -> None:
    position = played.listener()
    position.take(played.log[0])
    position.told_of_loss(f"{EPOCH}-2")
    position.take(played.log[2])
    assert played.ledger.told_of_loss == 1
    with pytest.raises(Violation, match="lobby/2 again"):
        position.take(played.log[1])


# -- changes of a message ---------------------------------------------------------------------------------------------


@pytest.fixture
def changed() -> Played:
    """Message a was edited twice and has two reactions; b was edited and deleted."""

    def on(kind: str, target: int, name: str) -> Act:
        return Act(kind, "lobby", name, target, "_ab"[target], "+" if kind == REACTION else "")

    it = Played(
        *said("a", "b"), on(EDIT, 1, "e1"), on(REACTION, 1, "r1"), on(EDIT, 2, "e2"), on(DELETE, 2, "d"),
        on(EDIT, 1, "e3"), on(REACTION, 1, "r2"),
    )  # fmt: skip
    it.log[0] |= {"text": "a e3", "edited": "t7", "reactions": {"+": 2}}
    it.log[1] |= {"text": "", "deleted": True}
    it.log[2]["text"] = it.log[4]["text"] = ""
    return it


def test_changed_records_are_distinguished_from_wrong_ones(changed: Played) -> None:
    changed.check()
    changed.ledger.check_shown(changed.room, changed.log, "a worker")


def test_a_record_that_differs_at_one_node(changed: Played) -> None:
    for offset, wrong in (
        (1, {"text": "a e1"}), (1, {"text": "a"}), (1, {"reactions": {"+": 1}}), (1, {"deleted": True}),
        (2, {"deleted": False}), (2, {"text": "b", "deleted": False}), (3, {"text": "a e1"}), (5, {"text": "b e2"}),
        (7, {"text": ""}),
    ):  # fmt: skip
        shown = list(changed.log)
        shown[offset - 1] = shown[offset - 1] | wrong
        told = ""
        try:
            changed.ledger.check_shown(changed.room, shown, "a worker")
        except Violation as violation:
            told = str(violation)
        assert f"lobby/{offset} reads" in told, wrong
