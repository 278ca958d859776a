"""The blocks of these pages that the code writes: `python docs/tables.py` brings them up to date.

Owns: what stands between `<!-- from code: NAME -->` and `<!-- end -->` in the pages below this folder. May not: know a
fact; from_server.py and from_loadgen.py ask the modules that own them. With `--check` nothing is written: the pages
that are stale are named, and the exit code is 1. tests/test_docs.py runs that, so a table cannot disagree with the
program.
"""

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the catalogue, which is no part of what is installed

import from_loadgen
import from_server

DOCS = Path(__file__).parent

_BLOCK = re.compile(r"(<!-- from code: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

BLOCKS: dict[str, Callable[[], str]] = {
    "contracts": from_server.contracts,
    "error-codes": from_server.error_codes,
    "close-codes": from_server.close_codes,
    "close-reasons": from_server.close_reasons,
    "limits": from_server.limits,
    "states": from_server.states,
    "state-handlers": from_server.state_handlers,
    "state-diagram": from_server.state_diagram,
    "scheduler-classes": from_server.scheduler_classes,
    "reclaim-ranks": from_server.reclaim_ranks,
    "water-marks": from_server.water_marks,
    "connection-memory": from_server.connection_memory,
    "metrics": from_server.metrics,
    "dependencies": from_server.dependencies,
    "development-dependencies": from_server.development_dependencies,
    "serve-flags": from_server.serve_flags,
    "loadgen-flags": from_loadgen.loadgen_flags,
    "persona-hooks": from_loadgen.persona_hooks,
    "persona-acts": from_loadgen.persona_acts,
    "personas-attackers": from_loadgen.personas_attackers,
    "personas-honest": from_loadgen.personas_honest,
    "personas-slow": from_loadgen.personas_slow,
    "report-schema": from_loadgen.report_schema,
    "attacks-slow": from_loadgen.attacks_slow,
    "attacks-greedy": from_loadgen.attacks_greedy,
    "attacks-malformed": from_loadgen.attacks_malformed,
    "figures-run": from_loadgen.figures_run,
    "figures-attack": from_loadgen.figures_attack,
    "figures-scorecard": from_loadgen.figures_scorecard,
    "figures-capacity": from_loadgen.figures_capacity,
    "figures-common": from_loadgen.figures_common,
    "figures-fingerprint": from_loadgen.figures_fingerprint,
    "figures-conform": from_loadgen.figures_conform,
    "conform-families": from_loadgen.conform_families,
    "good-practice": from_loadgen.good_practice,
}


def filled(text: str) -> str:
    """A page with its blocks as the code has them now."""
    return _BLOCK.sub(lambda block: f"{block[1]}{BLOCKS[block[2]]()}\n{block[3]}", text)


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` only look."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args(arguments).check
    stale = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(page)
    for page in stale:
        if is_check:
            sys.stdout.write(f"{page.relative_to(DOCS)} is stale; run: python docs/tables.py\n")
        else:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
