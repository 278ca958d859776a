"""How numbers, sizes, times and text from outside are written, the same on the terminal, on the page and in junit.xml.

Owns: digits and thousands, and that no text from a server can control a terminal. May not: print, or know HTML.
"""

import math
import unicodedata
from collections.abc import Mapping
from typing import Final, NamedTuple

from loadgen.report import figures

_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, bidi overrides, lone surrogates, line ends


class Amount(NamedTuple):
    value: str
    unit: str

    def __str__(self) -> str:
        return self.value + (self.unit if self.unit in {"", "%", figures.TIMES} else f" {self.unit}")


def number(value: float) -> str:
    """Three significant digits, but all digits before the point, with thousands separators."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if value == int(value) or size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def size(count: float) -> Amount:
    """Bytes, in the binary unit that keeps the number short."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024 * 10:
            return Amount(number(round(count) if unit == "B" and abs(count) >= 10 else count), unit)
        count /= 1024
    return Amount(number(count), "GiB")


def span(seconds: float) -> str:
    if seconds < 60:
        return f"{number(round(seconds, 1))} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def percent(value: float) -> str:
    """A percentage that is 100 only if it is exactly that: one failure in a million may matter."""
    return number(value) if not 99 <= value < 100 else f"{min(value, 99.99):.2f}"


def success_percent(succeeded: int, failed: Mapping[str, int]) -> str:
    """The share that succeeded; empty if there were no attempts."""
    attempts = succeeded + sum(failed.values())
    return percent(100 * succeeded / attempts) if attempts else ""


def several(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def printable_lines(text: str) -> str:
    """Make text printable, but keep its line ends."""
    return "\n".join(map(printable, text.split("\n")))


def printable(text: str) -> str:
    """Text from outside without characters that control a terminal, reorder a line or break XML."""
    if text.isprintable():
        return text
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(each) in _STEERING or each in "\ufffe\uffff" else each
        for each in text
    )
