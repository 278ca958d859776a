"""All figures by name."""

from loadgen.conform import summary
from loadgen.fingerprint import probes
from loadgen.report import figures


def test_a_name_that_several_commands_have_is_written_and_compared_in_one_way() -> None:
    """The figures of a report are found by their names alone."""
    ways: dict[str, set[tuple[object, ...]]] = {}
    for known in (figures.SCORECARD, figures.CAPACITY, figures.ALL, summary.FIGURES, probes.FIGURES):
        for name, each in known.items():
            ways.setdefault(name, set()).add((each.unit, each.better, each.tolerance))
    assert {"held", "not_exercised", "capacity", "wrong", "limits_good", "recover_s"} <= ways.keys()
    assert {name: found for name, found in ways.items() if len(found) > 1} == {}
