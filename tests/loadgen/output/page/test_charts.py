"""What is drawn, read back from the SVG."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import msgspec

from loadgen.output import sections
from loadgen.output.page import charts
from loadgen.output.page.charts import MOST_COLOURS, MOST_MOMENTS, Chart
from loadgen.report.schema import Outcome, Sample
from tests.loadgen import reports


def by_caption(found: list[Chart]) -> dict[str, Chart]:
    return {chart.caption: chart for chart in found}


def texts(drawing: Element, kind: str) -> list[str]:
    return ["".join(text.itertext()) for text in drawing.iter("text") if kind in (text.get("class") or "").split()]


def tips(drawing: Element) -> list[str]:
    return [title.text or "" for hit in drawing.iter("rect") for title in hit.iter("title")]


def test_what_was_measured_is_drawn_and_nothing_else() -> None:
    of_clients = ["Latency", "Connections held"]
    of_an_attack = ["Ended and refused by the server", "Server memory", "Server CPU", "Server descriptors"]
    for report, captions in (
        (reports.attack(), of_clients + of_an_attack),
        (reports.run(), of_clients),
        (reports.interrupted(), []),
        (reports.fingerprint(), []),
    ):
        assert list(by_caption(charts.over_time(report, "r"))) == captions


def test_memory_is_called_what_was_measured() -> None:
    """A table had 43.0 MiB and the chart 56.7 of the same minute, both as the server's memory."""
    report = reports.attack()
    assert by_caption(charts.over_time(report, "r"))["Server memory"].note == "MiB, RSS"
    [server] = [each for each in sections.everything(report) if each.title == "server"]
    assert [column.name for column in server.columns] == ["phase", "CPU %", "memory MiB, PSS"]


def test_latency_has_its_percentiles_phases_and_failures() -> None:
    chart = by_caption(charts.over_time(reports.attack(outcome=Outcome.FELL_SHORT), "r"))["Latency"]
    assert [each.name for each in chart.key] == ["max", "p99", "p50"]
    assert texts(chart.drawing, "band-name") == ["baseline", "attack", "recovery"]
    assert "1,000" in texts(chart.drawing, "tick")
    assert failures(chart) == 4
    assert any("FAILED" in tip and "p99 512 ms" in tip and "attack" in tip for tip in tips(chart.drawing))


def failures(chart: Chart) -> int:
    return sum(each.get("class") == "failure" for each in chart.drawing.iter("path"))


def latency_of(change: Callable[[int, Sample], Sample]) -> Chart:
    """The plot of a run whose samples were changed."""
    report = reports.run()
    report.timeline = [change(number, each) for number, each in enumerate(report.timeline)]
    return by_caption(charts.over_time(report, "r"))["Latency"]


def unmeasured(sample: Sample, **changes: Any) -> Sample:
    return msgspec.structs.replace(sample, p50_ms=None, p99_ms=None, max_ms=None, **changes)


def test_a_server_that_never_answers_is_seen_to_fail() -> None:
    chart = latency_of(lambda _, sample: unmeasured(sample, failed=20))
    assert "680 failed" in chart.note
    assert failures(chart) == 34


def test_a_line_breaks_where_nothing_was_measured() -> None:
    drawing = latency_of(lambda number, sample: unmeasured(sample) if number == 10 else sample).drawing
    paths = [path.get("d", "") for path in drawing.iter("path") if (path.get("class") or "").startswith("line")]
    assert [path.count("M") for path in paths] == [2, 2, 2]


def test_lines_stay_within_the_canvas() -> None:
    for chart in charts.over_time(reports.attack(outcome=Outcome.FELL_SHORT), "r"):
        canvas = chart.drawing.find("svg")
        assert canvas is not None
        height = float(canvas.get("height", "0"))
        for path in canvas.iter("path"):
            if "line" in (path.get("class") or "").split():
                for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.get("d", "")):
                    assert 0 <= float(x) <= 1000
                    assert 0 <= float(y) <= height


def test_honest_clients_beside_attackers_share_a_line() -> None:
    chart = by_caption(charts.over_time(reports.attack("slow-head"), "r"))["Connections held"]
    assert [each.name for each in chart.key] == ["slow-head", "honest"]
    assert set(chart.key[1].values) == {60}


def test_a_persona_of_two_groups_has_one_line() -> None:
    """It had one for each, and both of them had the clients of the last."""
    cohorts = reports.attack("slow-head").cohorts
    once, twice = charts.crowds(cohorts), charts.crowds(cohorts * 2)
    assert [(each.name, set(each.members)) for each in twice] == [(each.name, set(each.members)) for each in once]
    assert all(len(each.members) == len(set(each.members)) for each in twice)


def test_many_attacks_share_colours() -> None:
    kinds = [f"kind-{number}" for number in range(9)]
    chart = by_caption(charts.over_time(reports.attack(*kinds), "r"))["Connections held"]
    assert [each.name for each in chart.key] == [*kinds[: MOST_COLOURS - 1], "4 others", "honest"]
    assert len({each.colour for each in chart.key}) == MOST_COLOURS + 1


def test_long_runs_are_thinned_to_the_worst() -> None:
    report = reports.attack()
    report.timeline = [
        msgspec.structs.replace(report.timeline[5], seconds=float(at), p99_ms=900.0 if at == 1234 else 2.0, failed=0)
        for at in range(3600)
    ]
    drawing = by_caption(charts.over_time(report, "r"))["Latency"].drawing
    found = tips(drawing)
    assert len(found) == MOST_MOMENTS
    assert sum("p99 900 ms" in tip for tip in found) == 1


def test_every_plot_has_a_title_and_a_description_in_words() -> None:
    report = reports.attack(outcome=Outcome.FELL_SHORT)
    idents = []
    for chart in charts.over_time(report, "r"):
        for each, tag, by in zip(chart.drawing, ("title", "desc"), ("labelledby", "describedby"), strict=False):
            assert (each.tag, each.get("id")) == (tag, chart.drawing.get(f"aria-{by}"))
            assert each.text
            idents.append(each.get("id"))
    assert len(set(idents)) == len(idents)


def test_a_phase_is_drawn_until_its_last_sample() -> None:
    """The last sample of a phase is from the moment at which it ended; the next comes up to a second later."""
    ends = {1.0: "baseline", 1.4: "baseline", 2.4: "attack", 7.4: "attack", 8.0: "recovery"}
    samples = [Sample(seconds=at, phase=phase, held={}, ended={}, refused={}) for at, phase in ends.items()]
    bands = [(band.name, band.begins, band.ends) for band in charts.bands(samples)]
    assert bands == [("baseline", 0.0, 1.4), ("attack", 1.4, 7.4), ("recovery", 7.4, 8.0)]
