"""The checker of the soak can fail: each fault that it looks for is planted, and told by its name."""

from typing import Any

import pytest

from tests.soak.ledger import DELETE, EDIT, MESSAGE, REACTION, Act, Ledger, Position, Violation

EPOCH = "k3f9"


def json_of(act: Act, offset: int, **more: Any) -> dict[str, Any]:
    """A record as it is pushed."""
    found = {"offset": offset, "cursor": f"{EPOCH}-{offset}", "user": {"id": "u_1"}, "time": f"t{offset}"}
    if act.kind != MESSAGE:
        found |= {"type": act.kind, "target": act.target}
    if act.kind in (MESSAGE, EDIT):
        found["text"] = act.text
    return found | more


def said(*names: str) -> list[Act]:
    return [Act(MESSAGE, "lobby", name) for name in names]


class Played:
    """A ledger, a room whose acts were acknowledged, and the log as it has to be."""

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


def test_what_is_right_passes(played: Played) -> None:
    played.check()
    position = played.listener()
    for record in played.log:
        position.take(record)
    assert (position.at, position.cursor, played.ledger.seen) == (4, f"{EPOCH}-4", 4)


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_lost_record_in_the_log(played: Played) -> None:
    del played.log[1]
    with pytest.raises(Violation, match="3 comes after 1"):
        played.check()


def test_lost_records_at_its_end(played: Played) -> None:
    del played.log[2:]
    with pytest.raises(Violation, match="ends at 2, and 4 was acknowledged"):
        played.check()


def test_a_lost_record_whose_offset_another_has(played: Played) -> None:
    del played.log[1]
    played.log = [record | {"offset": at, "cursor": f"{EPOCH}-{at}"} for at, record in enumerate(played.log, 1)]
    with pytest.raises(Violation, match="lobby/2 is "):
        played.check()


def test_a_doubled_record(played: Played) -> None:
    played.log.append(json_of(played.acts[1], 5))
    with pytest.raises(Violation, match="b is at lobby/5 for the log, and also at 2"):
        played.check()


def test_a_doubled_record_that_was_deleted(played: Played) -> None:
    played.log.append(json_of(played.acts[1], 5, text="", deleted=True))
    with pytest.raises(Violation, match="nobody was told of lobby/5"):
        played.check()


def test_a_swapped_order_in_the_log(played: Played) -> None:
    first, second = played.log[1:3]
    place = ("offset", "cursor", "time")
    played.log[1:3] = [
        second | {key: first[key] for key in place},
        first | {key: second[key] for key in place},
    ]
    with pytest.raises(Violation, match="lobby/2 has c for the log, and had b"):
        played.check()


def test_what_nobody_was_answered_about_may_be_there(played: Played) -> None:
    played.log.append(json_of(Act(MESSAGE, "lobby", "e"), 5))
    played.ledger.check_log(played.room, played.log, pending={"e"})
    with pytest.raises(Violation, match="nobody was told of lobby/5"):
        played.check()


# -- acknowledgements -------------------------------------------------------------------------------------------------


def test_a_key_that_is_answered_again(played: Played) -> None:
    played.ledger.acknowledge(played.acts[2], "u_1", played.log[2])
    assert (played.ledger.acknowledged, played.ledger.repeated) == (4, 1)


def test_a_key_that_is_stored_twice(played: Played) -> None:
    with pytest.raises(Violation, match="c is at lobby/5 for its publisher, and also at 3"):
        played.ledger.acknowledge(played.acts[2], "u_1", json_of(played.acts[2], 5))


def test_an_offset_given_twice(played: Played) -> None:
    with pytest.raises(Violation, match="e and c are both acknowledged at lobby/3"):
        played.ledger.acknowledge(Act(MESSAGE, "lobby", "e"), "u_1", played.log[2])


def test_an_acknowledgement_of_what_others_see_elsewhere(played: Played) -> None:
    new = Act(MESSAGE, "lobby", "e")
    played.ledger.see(played.room, json_of(new, 5), "a listener")
    with pytest.raises(Violation, match="e is at lobby/6"):
        played.ledger.acknowledge(new, "u_1", json_of(new, 6))


def test_a_person_who_becomes_another(played: Played) -> None:
    with pytest.raises(Violation, match="lobby/3 is "):
        played.ledger.acknowledge(played.acts[2], "u_2", played.log[2])


def test_another_epoch(played: Played) -> None:
    new = Act(MESSAGE, "lobby", "e")
    with pytest.raises(Violation, match="other-5 in epoch k3f9"):
        played.ledger.acknowledge(new, "u_1", json_of(new, 5, cursor="other-5"))


# -- listeners --------------------------------------------------------------------------------------------------------


def test_a_listener_who_misses_one(played: Played) -> None:
    position = played.listener()
    position.take(played.log[0])
    with pytest.raises(Violation, match="lobby/3 after 1, and told of no gap"):
        position.take(played.log[2])


def test_a_listener_who_gets_one_twice(played: Played) -> None:
    position = played.listener()
    for record in played.log[:2]:
        position.take(record)
    with pytest.raises(Violation, match="lobby/2 again, after 2"):
        position.take(played.log[1])


def test_a_listener_to_whom_two_are_swapped(played: Played) -> None:
    position = played.listener()
    position.take(played.log[0])
    with pytest.raises(Violation, match="lobby/3 after 1"):
        position.take(played.log[2])
    position.take(played.log[1])
    position.take(played.log[2])
    with pytest.raises(Violation, match="lobby/2 again"):
        position.take(played.log[1])


def test_a_listener_who_is_told_of_a_loss(played: Played) -> None:
    position = played.listener()
    position.take(played.log[0])
    position.told_of_loss(f"{EPOCH}-2")
    position.take(played.log[2])
    assert played.ledger.told_of_loss == 1
    with pytest.raises(Violation, match="lobby/2 again"):
        position.take(played.log[1])


def test_a_listener_who_is_shown_another_record(played: Played) -> None:
    position = played.listener()
    with pytest.raises(Violation, match="lobby/1 has b for a listener, and had a"):
        position.take(json_of(played.acts[1], 1))


# -- what happens to a message ----------------------------------------------------------------------------------------


@pytest.fixture
def changed() -> Played:
    """Of a, which was edited twice and has two reactions; and b, which was edited and deleted."""

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


def test_what_was_changed_is_told_apart_from_what_is_wrong(changed: Played) -> None:
    changed.check()
    changed.ledger.check_shown(changed.room, changed.log, "a worker")


@pytest.mark.parametrize(
    ("offset", "wrong"),
    [
        (1, {"text": "a e1"}),
        (1, {"text": "a"}),
        (1, {"reactions": {"+": 1}}),
        (1, {"deleted": True}),
        (2, {"deleted": False}),
        (3, {"text": "a e1"}),
        (5, {"text": "b e2"}),
        (7, {"text": ""}),
    ],
)
def test_what_reads_otherwise_at_one_of_them(changed: Played, offset: int, wrong: dict[str, Any]) -> None:
    changed.log[offset - 1] |= wrong
    with pytest.raises(Violation, match=f"lobby/{offset} reads"):
        changed.ledger.check_shown(changed.room, changed.log, "a worker")


def test_a_deleted_text_that_is_shown_at_one_of_them(changed: Played) -> None:
    changed.log[1] |= {"text": "b", "deleted": False}
    with pytest.raises(Violation, match="lobby/2 reads"):
        changed.ledger.check_shown(changed.room, changed.log, "a worker")
