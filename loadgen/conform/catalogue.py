"""Every case, by family.

Owns: the order and the families' names. The numbers are Autobahn's, if that has the same case.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import chain
from types import MappingProxyType
from typing import Final

from loadgen.conform.case import Case
from loadgen.conform.framing import fragmented, framing, limits, pings, reserved
from loadgen.conform.handshakes import closing, opening
from loadgen.conform.utf8 import utf8
from loadgen.target import UsageError

FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "0": "opening handshake",
        "1": "frames",
        "2": "pings and pongs",
        "3": "reserved bits",
        "4": "opcodes",
        "5": "fragments",
        "6": "UTF-8",
        "7": "close",
        "9": "long and many messages",
        "10": "fragments of odd size",
        "12": "extensions",
    }
)

_FOUND: Final = chain(opening(), framing(), pings(), reserved(), fragmented(), utf8(), closing(), limits())
CASES: Final[tuple[Case, ...]] = tuple(sorted(_FOUND, key=lambda case: [*map(int, case.id.split("."))]))


def select(globs: Iterable[str]) -> tuple[Case, ...]:
    """Select cases by number, or by a glob such as `5.*`; without any, all of them."""
    wanted = [glob.strip() for text in globs for glob in text.split(",") if glob.strip()]
    for glob in wanted:
        if not any(fnmatchcase(case.id, glob) for case in CASES):
            raise UsageError(f"--case: no case is {glob!r}; `loadgen conform --list` prints them")
    return tuple(case for case in CASES if not wanted or any(fnmatchcase(case.id, glob) for glob in wanted))
