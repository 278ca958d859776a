"""What the host took, out of what the kernel tells."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import procfs
from loadgen.procfs import Ticks

STAT = """\
cpu  5040214 317364 1129188 6162269 72922 0 310722 331839 4000 30
cpu0 2427131 173172 549251 3217807 14012 0 134450 163907 2000 15
cpu1 2613083 144191 579937 2944462 58909 0 176272 167932 2000 15
intr 123456 0 9 0
ctxt 987654
"""


#: `user` and `nice` have the time of guests in them, which the last two fields tell once more.
TICKS = Ticks(total=5040214 + 317364 + 1129188 + 6162269 + 72922 + 0 + 310722 + 331839, stolen=331839)


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        (STAT, TICKS),
        ("cpu  1 2 3 4 5 6 7 8\n", Ticks(total=36, stolen=8)),  # a kernel that tells no more than that
        ("", None),
        ("\n", None),
        ("cpu\n", None),
        ("cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7\n", None),
        ("cpu0 1 2 3 4 5 6 7 8 9 10\n", None),
        ("intr 5\n", None),
    ],
)
def test_what_the_kernel_tells(text: str, ticks: Ticks | None) -> None:
    assert procfs.ticks_in(text) == ticks


def test_without_the_file_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "_STAT", tmp_path / "stat")
    assert procfs.ticks() is None
    (tmp_path / "stat").write_text(STAT)
    assert procfs.ticks() == procfs.ticks_in(STAT)


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (Ticks(1000, 100), Ticks(1400, 110), 2.5),
        (Ticks(1000, 100), Ticks(1400, 100), 0.0),
        (None, Ticks(5, 1), None),
        (Ticks(5, 1), None, None),
    ],
)
def test_what_was_taken_between_two_readings(before: Ticks | None, after: Ticks | None, percent: float | None) -> None:
    assert procfs.stolen_percent(before, after) == percent


@given(before=st.builds(Ticks, st.integers(0, 10**9), st.integers(0, 10**9)), back=st.integers(0, 50))
def test_no_tick_in_between_is_not_measured(before: Ticks, back: int) -> None:
    """The kernel's count of waiting for discs may go back, and the whole with it."""
    assert procfs.stolen_percent(before, before._replace(total=before.total - back)) is None
