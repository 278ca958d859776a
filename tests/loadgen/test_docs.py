"""The pages of loadgen name the exit codes, files, limits and commands of the code, which makes their tables."""

import re
from pathlib import Path

from loadgen import cli
from loadgen.fingerprint.probes import LIMITS, PROBES
from loadgen.fingerprint.site import Need
from loadgen.net import target
from loadgen.output import exports
from loadgen.report.verdict import LAG_LIMIT_MS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "loadgen.md").read_text(encoding="utf-8")
EXIT_CODES = PAGE.partition("## Exit codes")[2].partition("##")[0]
COMMANDS = {"run", "attack", "play", "capacity", "scorecard", "fingerprint", "compare", "conform", "diff"}


def test_every_exit_code_is_there() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", EXIT_CODES, re.MULTILINE)}
    assert codes == {0, 1, cli.BAD_FLAGS, 3, cli.REFUSED, 130}


def test_names_and_numbers_are_those_of_the_code() -> None:
    for words in (target.CONSENT_PATH, target.CONSENT_TEXT, *exports.FILES):
        assert f"`{words}`" in PAGE
    assert f"later than {LAG_LIMIT_MS:g} ms" in PAGE
    assert set(re.findall(r"^\| `loadgen (\w+)", PAGE, re.MULTILINE)) == COMMANDS
    for command in COMMANDS:
        assert cli.app[command].help


def test_the_help_of_diff_has_the_rule_of_the_page() -> None:
    """It said that ranges which do not overlap were enough, as they had been."""
    rule = "the two ranges are further apart than either is wide"
    assert rule in PAGE
    assert rule in " ".join(cli.app["diff"].help.split())


def test_the_example_of_a_fingerprint_has_every_limit() -> None:
    """It had one less than the program for a while. Two need TLS, which is not spoken there."""
    over_tls = sum(probe.need is Need.TLS for probe in PROBES)
    assert f"note: {len(LIMITS) - over_tls} good\n" in (DOCS / "fingerprint.md").read_text(encoding="utf-8")
