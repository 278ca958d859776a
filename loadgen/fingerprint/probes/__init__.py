"""The table of probes. Each is one row, beside the code that plays it."""

from collections.abc import Mapping
from typing import Final

from loadgen.fingerprint.found import Unit
from loadgen.fingerprint.practice import Limit, Mark
from loadgen.fingerprint.probes import deadlines, reading, served, sizes, websockets
from loadgen.report.figures import Better, Figure, named

#: Not a probe: `OrdinaryClient` sends these requests beside the probes.
MEANWHILE: Final = Limit(
    name="answers to plain requests",
    figure="answers_meanwhile_percent",
    meaning="plain requests answered while all slow probes were open, one a second",
    why="a hundred slow clients must not stop a server; they do if it has a thread each and no more than that many",
    unit=Unit.PERCENT,
    good=(99, None),
    below=Mark.MISSING,
)

#: Played before the others, alone.
FIRST: Final = served.CROWD

#: Played all at once.
ALONGSIDE: Final = (
    *deadlines.PROBES,
    *served.PROBES,
    *reading.PROBES,
    *sizes.PROBES,
    *websockets.PROBES,
)

PROBES: Final = (*FIRST, *ALONGSIDE)

LIMITS: Final[Mapping[str, Limit]] = {limit.figure: limit for limit in (MEANWHILE, served.BESIDE_CROWD, *PROBES)}

_COUNTS: Final = (
    Figure("limits_good", "", "limits within good practice", better=Better.MORE),
    Figure("limits_lenient", "", "limits that allow an attacker more than good servers do"),
    Figure("limits_harsh", "", "limits that hurt honest slow users"),
    Figure("limits_missing", "", "limits that are not there"),
    Figure("limits_undecided", "", "limits that were not seen, nor looked for far enough"),
    Figure("probes_failed", "", "probes that did not finish"),
)

#: What --fail-if understands.
FIGURES: Final = named((*(limit.declared for limit in LIMITS.values()), *_COUNTS))
