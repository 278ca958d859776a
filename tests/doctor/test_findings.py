"""The doctor's findings: each kind of trouble, and none for healthy nodes."""

from msgspec.structs import replace

from chatserver.doctor.facts import Delivery, Node, Severity, Shards, Trouble
from chatserver.doctor.findings import conclude, span

FAULT, WARNING = Severity.FAULT, Severity.WARNING
SHARDS = Shards(reachable=2, of=2)


def node(url: str, **more: object) -> Node:
    well = Node(
        url=url, version="1.2", log="postgresql", epoch="k3f9", shards=SHARDS, clock_ms=0.4, clock_error_ms=0.5,
        answer_ms=1.0, publish_ms=4.0, messages_clock_ms=0.2,
    )  # fmt: skip
    return replace(well, **more)


def delivery(sender: str = "a", receiver: str = "b", **more: object) -> Delivery:
    well = Delivery(sender=sender, receiver=receiver, attempted=True, pushed_ms=4.0, readable=True, present=True)
    return replace(well, **more)


def found(nodes: list[Node], deliveries: list[Delivery] | None = None) -> list[tuple[Severity, str]]:
    findings = conclude(nodes, deliveries or [])
    assert all(each.advice and each.nodes for each in findings)
    return [(each.severity, each.what) for each in findings]


def test_healthy_nodes_have_no_findings() -> None:
    assert found([node("a"), node("b")], [delivery(*pair) for pair in ("aa", "ab", "ba", "bb")]) == []
    assert found([node("a", shards=None)], [delivery("a", "a")]) == [], "a single server needs no --shared"
    unread = delivery("a", "a", attempted=False, readable=False, pushed_ms=None)
    assert found([node("a", clock_ms=None), node("b", messages_clock_ms=None)], [unread]) == []


def test_every_trouble_is_a_fault_with_its_words() -> None:
    for trouble in Trouble:
        cut_off = delivery("b", "a", pushed_ms=None, readable=False, present=False)
        [(severity, what)] = found([Node(url="a", trouble=trouble, words="because"), node("b")], [cut_off])
        assert (severity, what[0], what.endswith(": because")) == (FAULT, "a", True)


def test_a_node_that_differs() -> None:
    for more, severity, what in (
        ({"log": "sqlite", "epoch": "x"}, FAULT, "different kinds of log: postgresql at a; sqlite at b"),
        ({"epoch": "abcd"}, FAULT, "different logs, of the epochs k3f9 at a; abcd at b: they are not one chat"),
        ({"version": "1.3"}, WARNING, "different versions: 1.2 at a; 1.3 at b"),
        ({"shards": None}, FAULT, "different --shared: 2 shards at a; none at b"),
        ({"shards": Shards(3, 3)}, FAULT, "different --shared: 2 shards at a; 3 shards at b"),
        ({"shards": Shards(1, 2)}, FAULT, "b reaches 1 of 2 shards"),
        ({"clock_ms": 300_000.4}, FAULT, "the clock of b is 5.0 min ahead of that of a"),
        ({"clock_ms": -300_000.4}, FAULT, "the clock of a is 5.0 min ahead of that of b"),
        ({"messages_clock_ms": -7_200_000.0}, FAULT, "messages get times that are 2.0 h behind the clock of b"),
        ({"messages_clock_ms": 7_200_000.0}, FAULT, "messages get times that are 2.0 h ahead of the clock of b"),
    ):
        [(found_severity, found_what)] = found([node("a"), node("b", **more)])
        assert (found_severity, what in found_what) == (severity, True), (more, found_what)


def test_a_difference_of_clocks_below_the_error_of_measurement_is_ignored() -> None:
    assert found([node("a"), node("b", clock_ms=900.0)]) == []
    off = {"clock_ms": 1_500.0, "messages_clock_ms": 1_500.0}
    assert found([node("a", clock_error_ms=300.0), node("b", **off, clock_error_ms=300.0)]) == []
    assert found([node("a", **off, clock_error_ms=600.0)]) == []
    assert found([node("a", messages_clock_ms=1_500.0, clock_error_ms=300.0, publish_ms=300.0)]) == []


def test_a_wrong_clock_of_this_machine_is_no_fault_of_the_nodes() -> None:
    for ms, side in (-60_000.0, "behind"), (60_000.0, "ahead of"):
        off = {"clock_ms": ms, "messages_clock_ms": ms}
        both = found([node("a", **off), node("b", **off)])
        assert both == [(WARNING, f"the clocks of all nodes are 1.0 min {side} this machine's")]
        alone = found([node("a", **off)])
        assert alone == [(WARNING, f"the clock of the node is 1.0 min {side} this machine's")]


def test_a_clock_of_the_database_is_one_fault_for_all_nodes() -> None:
    assert len(found([node(url, messages_clock_ms=-60_000.0) for url in "ab"])) == 1


def test_a_room_written_while_the_nodes_clock_was_ahead_is_no_fault_of_a_database() -> None:
    """It keeps the later time; a node with a file stamps its messages itself."""
    [(severity, what)] = found([node("a", log="sqlite", messages_clock_ms=7_200_000.0)])
    assert (severity, what) == (WARNING, "messages in this room get times that are 2.0 h ahead of the clock of a")


def test_two_nodes_without_shared() -> None:
    [(severity, what)] = found([node("a", shards=None), node("b", shards=None)])
    assert (severity, "share no presence" in what) == (WARNING, True)


def test_a_delivery_that_fails() -> None:
    for more, severity, what in (
        ({"readable": False, "pushed_ms": None}, FAULT, "cannot be read at b"),
        ({"pushed_ms": None}, FAULT, "is not pushed to WebSockets there"),
        ({"pushed_ms": 600.0}, WARNING, "comes to b after 600 ms"),
        ({"present": False}, FAULT, "a member at a is not in the list of members at b"),
    ):
        [(found_severity, found_what)] = found([node("a"), node("b")], [delivery("b", "a"), delivery("a", "b", **more)])
        assert (found_severity, what in found_what) == (severity, True), (more, found_what)


def test_faults_come_first() -> None:
    severities = [severity for severity, _ in found([node("a"), node("b", version="1.3", shards=None)])]
    assert severities == [FAULT, WARNING]


def test_spans_are_written_in_words() -> None:
    for ms, words in ((0.04, "0.0 ms"), (9.94, "9.9 ms"), (250.4, "250 ms"), (1_500, "1.5 s"), (90_000, "1.5 min")):
        assert span(ms) == words
