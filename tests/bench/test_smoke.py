"""The benches run. What they measure on a machine that is busy with a test suite means nothing, so nothing is said
about it here: only that a figure comes out, and how verdicts and tables are made.
"""

import json
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.figures import Better, Figure, Result, Scale, Verdict
from tests.bench.registry import BENCHES

LOWER = Figure(name="lower", unit=" B", bound=10, aim=5, better=Better.LOWER)
HIGHER = Figure(name="higher", unit="%", bound=5, aim=10, better=Better.HIGHER)


@pytest.mark.parametrize("name", ["handshakes", "publish", "costly", "pipeline"])
def test_a_bench_runs(name: str) -> None:
    results = list(BENCHES[name].run(Scale.QUICK))
    assert results
    assert all(result.value > 0 for result in results)


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        (LOWER, 5, Verdict.AIM), (LOWER, 10, Verdict.BOUND), (LOWER, 11, Verdict.SHORT),
        (HIGHER, 10, Verdict.AIM), (HIGHER, 5, Verdict.BOUND), (HIGHER, 4, Verdict.SHORT),
    ],
)  # fmt: skip
def test_verdicts(figure: Figure, value: float, verdict: Verdict) -> None:
    assert Result(figure=figure, samples=[value]).verdict is verdict


def test_the_median_is_what_counts() -> None:
    assert Result(figure=LOWER, samples=[4, 5, 500]).verdict is Verdict.AIM


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(figure=LOWER, samples=[4, 6, 9], details="measured by hand")
    report.show([result])
    assert "| lower | 6 (4-9) B | ≤ 10 B | ≤ 5 B | OK | measured by hand |" in capsys.readouterr().out
    report.write_json([result], tmp_path / "results.json")
    (record,) = json.loads((tmp_path / "results.json").read_text())
    assert (record["value"], record["verdict"]) == (6, "OK")
