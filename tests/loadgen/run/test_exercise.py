"""Whether an attack took place, as a table: counts in, reasons out."""

import pytest

from loadgen.cases import requests
from loadgen.clients.messages import GroupStatus
from loadgen.net.answers import ALL_WRITTEN, UNANSWERED
from loadgen.personas import registry
from loadgen.protocols import served
from loadgen.run import experiment
from loadgen.run.exercise import (
    Standing,
    fault_of_page,
    has_failed,
    not_exercised,
    nothing_served,
    unmet,
    whole_cycles,
    without_a_page,
)
from loadgen.run.player import Player
from loadgen.scorecard import ATTACKING, LONGEST_ROW
from tests.loadgen.plays import plan
from tests.loadgen.readings import NOBODY, group

PERSONAS = registry()


def _group(persona: str, **counts: object) -> GroupStatus:
    usual = {**dict.fromkeys(("wanted", "peak", "opened", "came", "due"), 100), "sent_bytes": 5_000}
    return group(persona, "attackers", **(usual | counts))


def _stood(*looks: GroupStatus) -> Standing:
    """A look a second."""
    standing = Standing()
    for each in looks:
        standing.look([each], 1.0)
    return standing


@pytest.mark.parametrize(
    ("came", "due", "reason"),
    [
        ([0, 40, 100, 100], [100] * 4, ""),
        ([0, 40, 94, 100], [100] * 4, "had come for only 25% of the attack: a longer one"),
        ([0, 100, 100, 100], [0, 0, 0, 100], ""),  # they are due in a later phase
        ([20, 48, 72, 100], [20, 50, 75, 100], ""),  # they are due one by one
        ([100, 100, 100, 100], [0, 0, 0, 0], "for only 0%"),  # in no phase that is judged
    ],
)
def test_an_attack_that_was_complete_too_late(came: list[int], due: list[int], reason: str) -> None:
    looks = [_group("slow-head", came=here, due=wanted) for here, wanted in zip(came, due, strict=True)]
    found = not_exercised(looks[-1:], PERSONAS, _stood(*looks))
    assert len(found) == bool(reason)
    assert reason in "".join(found)


PLAYED: list[tuple[str, dict[str, object], str]] = [
    ("slow-head", {}, ""),
    ("slow-head", {"came": 95}, ""),
    ("slow-head", {"came": 94}, "only 94 of 100 came (the others were not yet let in: a longer attack"),
    ("slow-head", {"came": 30, "failed": {"connection refused": 70}}, "30 of 100 came (connection refused: 70)"),
    (
        "slow-frame",
        {"came": 0, "sent_bytes": 0, "failed": {"answered 404": 60}, "refused": {"answered 503": 40}},
        "only 0 of 100 came (answered 404: 60, answered 503: 40)",
    ),
    ("slow-body", {"answers": {"answered 408": 100}}, ""),
    ("slow-body", {"answers": {"answered 404": 100}}, "100 of 100 requests were not served (answered 404)"),
    ("slow-body", {"answers": {"answered 405": 5}}, ""),
    ("slow-body", {"answers": {"answered 501": 6}}, "6 of 100 requests were not served"),
    ("slow-body", {"answers": {"answered 401": 50, "answered 302": 50}}, "(answered 302, answered 401); name a"),
    ("slow-body", {"answers": {"answered 403": 100}}, "were not served (answered 403)"),
    ("slow-body", {"answers": {"answered 400": 60, "answered 413": 20, "answered 429": 20}}, ""),
    ("slow-read", {"answers": {"answered 200": 100, ALL_WRITTEN: 50}}, ""),
    ("slow-read", {"answers": {"answered 200": 100, ALL_WRITTEN: 51}}, "written all answers to 51 of 100"),
    ("bad-tokens", {"answers": {"answered 401": 100}}, ""),
    ("malformed-http", {"answers": {"answered 404": 100}}, ""),
    ("malformed-http", {"answers": {"two lengths: answered 400": 1, "unknown coding: answered 501": 1}}, ""),
    ("malformed-http", {"answers": {"two lengths: answered 404": 3}}, "was not seen, as what they ask for"),
    ("malformed-http", {"answers": {"two lengths: answered 405": 1, "two lengths: answered 200": 1}}, ""),
    ("malformed-http", {"answers": {"no target: answered 404": 3}}, ""),
    ("slow-head", {"sent_bytes": 0}, "it sent nothing"),
    ("idle-connect", {"sent_bytes": 0}, ""),
    ("connect-flood", {"sent_bytes": 0}, ""),
]


def test_an_attack_that_did_not_take_place() -> None:
    for persona, counts, reason in PLAYED:
        played = _group(persona, **counts)
        found = not_exercised([played], PERSONAS, _stood(played))
        assert len(found) == bool(reason), (persona, counts)
        assert all(told.startswith(f"not exercised: {persona}: ") and reason in told for told in found), found


def test_a_persona_plays_only_where_its_needs_are_met() -> None:
    web = served(["get"])
    assert not unmet(PERSONAS["slow-head"], web)
    assert "slow-frame needs WebSocket, and the victims show only HTTP/1.1" in unmet(PERSONAS["slow-frame"], web)
    assert "tiny-frames needs chat.v1" in unmet(PERSONAS["tiny-frames"], served(["get", "ws-echo"]))
    assert not unmet(PERSONAS["tiny-frames"], served(["poll", "get"]))
    assert not unmet(PERSONAS["tls-key-updates"], web, tls=True)
    assert "tls-key-updates needs TLS: play it at an https:// URL" in unmet(PERSONAS["tls-key-updates"], web)


def test_who_needs_a_page_does_not_come_without_one() -> None:
    neighbours = {PERSONAS["slow-typist"]: 5, PERSONAS["tunnel"]: 5}
    assert without_a_page(neighbours, 399) == (neighbours, [])
    for status, told in ((400, "answered 400"), (None, "not answered")):
        kept, [reason] = without_a_page(neighbours, status)
        assert list(kept) == [PERSONAS["tunnel"]]
        assert reason == f"not exercised: slow-typist beside the attack: GET was {told}, and it needs a page"


@pytest.mark.parametrize(
    ("statuses", "fault"),
    [
        ([200, 200, 200], ""),
        ([302, 302, 302], ""),
        ([401, 401, 401], "GET /page was answered 401 before anything else"),
        ([403, 404, 404], "403 and 404"),
        ([404, 200, 200], ""),
        ([404, 429, 404], ""),
        ([500, 500, 500], ""),  # that is the server's fault, and shows in operations
        ([None], ""),
    ],
)
def test_a_page_that_no_victim_can_fetch(statuses: list[int | None], fault: str) -> None:
    found = fault_of_page("/page", statuses)
    assert fault in found
    assert bool(fault) is bool(found)


@pytest.mark.parametrize(
    ("errors", "acknowledged", "is_nothing"),
    [
        ({"answered 401": 9}, 0, True),
        ({"answered 404": 5, "answered 405": 4}, 0, True),
        ({"answered 400": 5, "answered 413": 4}, 0, True),  # a body that no load explains: the server was blamed for it
        ({"answered 401": 9}, 1, False),
        ({"answered 404": 5, "answered 500": 1}, 0, False),
        ({"answered 429": 9}, 0, False),
        ({}, 0, False),
    ],
)
def test_a_load_that_was_not_served_at_all_measured_nothing(
    errors: dict[str, int], acknowledged: int, is_nothing: bool
) -> None:
    assert bool(nothing_served("/page", errors, acknowledged)) is is_nothing


def test_neighbours_play_whole_cycles_or_not_at_all() -> None:
    neighbours = {persona: 5 for persona in PERSONAS.values() if persona.slow}
    assert whole_cycles(neighbours, 60.0) == (neighbours, []), "no cycle is longer than a minute"
    kept, [reason] = whole_cycles(neighbours, 30.0)
    assert PERSONAS["tunnel"] not in kept
    assert PERSONAS["curl"] in kept
    assert "tunnel 35 s" in reason


def test_a_row_of_a_scorecard_is_long_enough_for_all_neighbours_but_one_and_all_rows_take_35_minutes() -> None:
    row = ATTACKING.experiment(12.0, LONGEST_ROW)
    kept, _ = whole_cycles(row.neighbours, row.expected_seconds)
    assert {persona.name for persona in row.neighbours.keys() - kept} == {"sleepy-tab"}
    rows = sum(not persona.honest for persona in PERSONAS.values())
    assert rows * (row.expected_seconds + 5.0) <= 35 * 60


def test_every_neighbour_says_how_long_its_cycle_is() -> None:
    assert all(persona.cycle_seconds > 0 for persona in PERSONAS.values() if persona.slow)


# Malformed requests that must be refused


def test_what_is_taken_is_told_by_case() -> None:
    answers = {
        "two lengths: answered 201": 3,
        "two lengths: closed": 9,
        "the same length twice: answered 201": 4,  # may be taken
        "no Host: answered 200": 2,
        "no Host: answered 304": 1,
        "answered 400": 90,
    }
    assert requests.accepted(answers) == {"two lengths": 3, "no Host": 3}
    assert requests.accepted({"answered 400": 100, "two lengths: closed": 4}) == {}


def test_what_another_sites_page_may_do_is_told_by_case() -> None:
    """A server that accepted all of it was held."""
    answers = {"text from another origin: answered 201": 3, "WebSocket by another name: answered 101": 2}
    answers |= {"page by another name: answered 301": 1}  # to the server's own name
    answers |= {"text by another name: closed": 1, "answered 403": 4}
    taken = {"text from another origin": 3, "WebSocket by another name": 2}
    assert requests.accepted(answers) == taken


def test_a_server_that_reads_no_bodies_shows_nothing_of_chunks() -> None:
    """lighttpd answers a post to a file before the body comes, and closes: it was said to accept malformed chunks."""
    answers = {"negative chunk size: answered 200": 3, "two lengths: answered 200": 1}
    assert requests.accepted(answers) == {"negative chunk size": 3, "two lengths": 1}
    answers |= {f"{requests.NO_CHUNKS}: answered 200": 1, "chunk size with 0x: answered 200 and closed": 1}
    assert requests.accepted(answers) == {"two lengths": 1}
    assert requests.unseen(answers) == "chunk size with 0x: 200 and closed, negative chunk size: 200"


def test_what_blames_a_target_that_serves_nothing() -> None:
    """As the crowd's clients and as victims word it."""
    failures = [*(f"answered {status}" for status in (408, 425, 429, 500, 502, 503)), "close 1013", "close 1001 'bye'"]
    failures += ["closed", "reset", "connection reset by peer", "connection refused"]
    others = [*(f"answered {status}" for status in (200, 302, 400, 401, 404, 501)), "close 1003", "close 1008"]
    others += ["", UNANSWERED, f"{UNANSWERED}: a held poll", "too many open files", "a text frame that is not chat.v1"]
    assert [each for each in (*failures, *others) if has_failed({each})] == failures


@pytest.mark.parametrize(("status", "is_remarked_on"), [(200, False), (301, True), (304, False)])
def test_a_redirect_is_remarked_on_and_an_unchanged_page_is_none(status: int, is_remarked_on: bool) -> None:
    """A 304 to `If-None-Match` came with the advice to name the page that it leads to."""
    load = experiment.honest_load({PERSONAS["request"]: 1}, rate=1, seconds=1)
    player = Player(plan(NOBODY), load)
    player._look_at_page([status])
    assert bool(player._measured.left_out) is is_remarked_on
