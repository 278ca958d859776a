"""Thresholds over figures: the default bar of an experiment, and what `--fail-if` adds to it.

Owns: the syntax of a condition, and how one is judged. The limits of the bar are declared with the figures.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from loadgen.net.target import UsageError
from loadgen.report.figures import ALL, Figure, Figures, When

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne}
)
_CONDITION: Final = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(>=|<=|==|!=|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*")


class Condition(NamedTuple):
    """A threshold: the run fails if it is true."""

    figure: str
    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.figure}{self.sign}{self.limit:g}"

    @property
    def is_time(self) -> bool:
        """Whether it is about how long something took, which other programs can change."""
        return self.figure in ALL and ALL[self.figure].is_time

    @property
    def is_proof(self) -> bool:
        """Whether it is true of the target, whatever became of the generator."""
        return self.figure in ALL and ALL[self.figure].proof

    def judge(self, figures: Figures) -> str | None:
        """Say why the run fails by this condition, or return `None`."""
        value = figures[self.figure]
        if value is None:
            return f"{self.figure} was not measured, so {self} cannot be judged"
        shown = f"{value:g}" if abs(value) < 10_000 else f"{value:,.0f}"
        return f"{self.figure} is {shown} ({self})" if _OPERATORS[self.sign](value, self.limit) else None


def bar_of(known: Mapping[str, Figure], given: Iterable[When], *, round_trip_ms: float) -> tuple[Condition, ...]:
    """The default conditions on a target, for an experiment that has the given things."""
    given = {When.ALWAYS, *given}
    return tuple(
        Condition(figure.name, figure.bar.sign, round(figure.bar.limit + figure.bar.far * round_trip_ms, 1))
        for figure in known.values()
        if figure.bar is not None and figure.bar.when in given
    )


def parse(conditions: Iterable[str], known: Iterable[str], *, server_pid: bool) -> tuple[Condition, ...]:
    """Read `--fail-if` arguments, each one or more comma-separated conditions."""
    known = tuple(known)
    return tuple(_parse(text, known, server_pid) for many in conditions for text in many.split(","))


def _parse(text: str, known: tuple[str, ...], server_pid: bool) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(f"--fail-if: {text!r} is not of the form 'FIGURE>NUMBER'")
    name, sign, limit = match.groups()
    if name not in known:
        raise UsageError(f"--fail-if: there is no figure {name!r}; known are {', '.join(sorted(known))}")
    if name.startswith("server_") and not server_pid:
        raise UsageError(f"--fail-if: {name} is only measured with --server-pid")
    return Condition(name, sign, float(limit))
