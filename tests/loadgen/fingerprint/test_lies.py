"""Servers of which fingerprints said something wrong, each with the fault planted, beside one that is sound.

In virtual time, one probe each.
"""

from dataclasses import replace

import pytest
from trio.testing import MockClock

from loadgen.fingerprint.findings import Failed, Found, NoneSeen, NotApplicable
from loadgen.fingerprint.practice import Mark
from loadgen.report import Outcome
from tests.loadgen.fingerprint.plant import NEVER, Plant
from tests.loadgen.fingerprint.planted import planted
from tests.loadgen.fingerprint.plays import GOOD, SLACK, Rows, find, fingerprint

#: From the first sample to the last.
SAMPLES_APART = 20 / 3


@pytest.mark.parametrize("figure", ["head_deadline_s", "body_deadline_s", "chunked_body_deadline_s"])
async def test_a_total_deadline_is_one(figure: str, autojump_clock: MockClock) -> None:
    result = await find(GOOD, figure)
    assert isinstance(result.finding, Found)
    assert result.finding.how.endswith("a total deadline")
    assert result.mark is Mark.GOOD


async def test_a_timer_that_each_line_starts_anew_is_no_total_deadline(autojump_clock: MockClock) -> None:
    """A byte a second never completed a line, so it was "10.0 s, a total deadline, good"."""
    result = await find(replace(GOOD, head_total=NEVER, head_line=10), "head_deadline_s")
    assert isinstance(result.finding, NoneSeen)
    assert "a byte a second 10.0 s ±0.05, a line a second none seen" in result.finding.how
    assert result.mark is Mark.MISSING
    stalled = await find(replace(GOOD, head_total=NEVER, head_line=10), "head_stall_deadline_s")
    assert stalled.mark is Mark.GOOD, "what it has, it has"


@pytest.mark.parametrize(
    ("figure", "plant"),
    [
        ("head_deadline_s", replace(GOOD, head_total=NEVER, head_rate=240)),
        ("body_deadline_s", replace(GOOD, body_total=NEVER, body_rate=240)),
        ("chunked_body_deadline_s", replace(GOOD, body_total=NEVER, body_rate=240)),
    ],
)
async def test_a_least_rate_is_no_deadline(figure: str, plant: Plant, autojump_clock: MockClock) -> None:
    """It ends a byte a second after 5 s and 400 never: that was "5.00 s, a total deadline, good"."""
    result = await find(plant, figure)
    assert isinstance(result.finding, Found)
    assert result.words == "5.00 s or more"
    assert result.finding.how.endswith("a least rate")
    assert result.mark is Mark.LENIENT


async def test_a_least_rate_beside_a_total_deadline_is_good(autojump_clock: MockClock) -> None:
    result = await find(replace(GOOD, body_rate=240), "body_deadline_s")
    assert isinstance(result.finding, Found)
    assert abs(result.finding.least - 5) < SLACK
    assert abs(result.finding.most - 12) < SLACK
    assert result.mark is Mark.GOOD


async def test_too_many_lines_are_no_deadline(autojump_clock: MockClock) -> None:
    """The size limit ends 400 bytes a second after 10 s, which is no answer to how long a line a second may take."""
    result = await find(replace(GOOD, head_total=25, max_begun=4000), "head_deadline_s")
    assert isinstance(result.finding, Found)
    assert abs(result.finding.value - 25) < SLACK
    assert result.mark is Mark.GOOD


@pytest.mark.parametrize("figure", ["chunked_body_deadline_s", "chunk_overhead_bytes"])
async def test_a_kind_of_request_that_is_not_taken_has_no_limit(figure: str, autojump_clock: MockClock) -> None:
    """A 411 at once was a deadline of "0.00 s, harsh", and a 411 to every size "none seen up to 1 MiB, missing"."""
    assert isinstance((await find(GOOD, figure)).finding, Found)
    refused = await find(replace(GOOD, chunked=411), figure)
    assert isinstance(refused.finding, NotApplicable)
    assert "411" in refused.finding.why


@pytest.mark.parametrize("figure", ["chunked_body_deadline_s", "chunk_overhead_bytes"])
async def test_no_place_is_no_limit_either(figure: str, autojump_clock: MockClock) -> None:
    result = await find(replace(GOOD, chunked=503), figure)
    assert isinstance(result.finding, Failed)
    assert "503" in result.finding.why


async def test_a_connection_that_is_turned_away_has_no_deadline(autojump_clock: MockClock) -> None:
    result = await find(Plant(says=b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n"), "first_byte_deadline_s")
    assert isinstance(result.finding, Failed)
    assert "503" in result.finding.why


@pytest.mark.parametrize("figure", ["ws_message_bytes", "ws_fragments"])
async def test_a_websocket_that_takes_no_message_of_ours_has_no_size_limit(
    figure: str, autojump_clock: MockClock
) -> None:
    """One that closes after what it does not understand was "0 B (to 256), harsh"."""
    assert isinstance((await find(GOOD, figure)).finding, Found)
    assert isinstance((await find(replace(GOOD, max_message=10), figure)).finding, NotApplicable)


async def test_a_connection_that_is_not_kept_has_no_idle_deadline(autojump_clock: MockClock) -> None:
    """One that is closed after an answer, without a word of it, was "0.00 s, harsh"."""
    result = await find(replace(GOOD, keepalive=0), "keepalive_deadline_s")
    assert isinstance(result.finding, NotApplicable)


async def test_one_reset_is_no_size_limit(autojump_clock: MockClock) -> None:
    """It was an exact one."""
    result = await find(replace(GOOD, reset_head_once=3000), "head_bytes")
    assert result.finding == Found(value=16_384, uncertainty=1, how="431, closing")


async def test_one_reset_is_no_cap_on_connections(autojump_clock: MockClock) -> None:
    plant = replace(GOOD, per_address=NEVER, reset_connection=31)
    result = await find(plant, "connections_per_address", connections=60)
    assert result.finding == NoneSeen(looked=59, how="1 turned away")


async def test_a_short_deadline_is_no_cap_on_connections(autojump_clock: MockClock) -> None:
    """The first of many had been ended when the last came: that was the cap."""
    plant = replace(GOOD, per_address=NEVER, head_total=0.7)
    result = await find(plant, "connections_per_address", connections=450)
    assert isinstance(result.finding, NoneSeen)
    assert "ended later" in result.finding.how
    assert result.mark is not Mark.HARSH


@pytest.mark.parametrize("any_activity", [False, True])
async def test_the_question_whether_a_silent_reader_lives_is_no_sign_of_life(
    any_activity: bool, autojump_clock: MockClock
) -> None:
    """A request a second kept the connection for ever: "none seen within 105 s, missing"."""
    result = await find(replace(GOOD, any_activity=any_activity), "never_read_deadline_s")
    assert isinstance(result.finding, Found)
    assert result.finding.least >= 20
    assert result.finding.most < 22
    assert result.mark is Mark.GOOD


async def test_a_server_that_looks_at_its_deadlines_now_and_then_has_a_range(autojump_clock: MockClock) -> None:
    """60 s, looked at every 30: a single sample said any figure between 60 and 90, exactly."""
    result = await find(replace(GOOD, head_total=60, sweep=30), "head_stall_deadline_s")
    assert isinstance(result.finding, Found)
    assert result.finding.least >= 60
    assert result.finding.most <= 90 + SLACK
    assert result.finding.most - result.finding.least > SAMPLES_APART / 2
    assert " to " in result.words


async def test_one_connection_that_ends_early_is_no_harsh_deadline(autojump_clock: MockClock) -> None:
    plant = replace(GOOD, reset_connection=6)
    result = await find(plant, "first_byte_deadline_s")
    assert isinstance(result.finding, Found)
    assert result.finding.least < 1
    assert abs(result.finding.value - 10) < SLACK
    assert result.mark is Mark.GOOD


@pytest.mark.parametrize(("status", "kind"), [(0, Found), (400, Found), (503, Failed)])
async def test_any_answer_to_an_honest_slow_client_was_service(
    status: int, kind: type[object], autojump_clock: MockClock
) -> None:
    """A 400 or 503 was "yes"."""
    result = await find(replace(GOOD, late_head=status), "slow_typist_served")
    assert isinstance(result.finding, kind)
    assert result.mark is {0: Mark.GOOD, 400: Mark.HARSH, 503: Mark.NONE}[status]


async def test_a_probe_that_failed_blames_nobody(autojump_clock: MockClock) -> None:
    """The target fell short, and exit code 1, for each probe that had met a 503."""
    async with planted(replace(GOOD, chunked=503)) as server:
        report = await fingerprint(server)
    assert report.exit_code == Outcome.INVALID
    assert {reason.partition(":")[0] for reason in report.verdict.reasons} == {"failed"}


async def test_a_server_without_a_place_is_not_measured(autojump_clock: MockClock) -> None:
    """All it said was compared with its 503 to a plain request: limits were "missing", and the slow were "served"."""
    async with planted(replace(GOOD, busy=True)) as server:
        report = await fingerprint(server)
    rows = Rows(report)
    assert report.exit_code == Outcome.INVALID
    assert not [name for name in rows.names() if rows.mark(name) in {"missing", "harsh"}]
    assert "turned away: 503" in rows.how("head size")
