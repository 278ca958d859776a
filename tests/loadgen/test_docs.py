"""docs/loadgen.md and docs/figures.md tell the truth of what the code has and of what a report looks like on disk."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadgen import cli, exports, target
from loadgen.report import LAG_LIMIT_MS, SCHEMA
from tests.loadgen import reports

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("loadgen.md", "figures.md"))
EXIT_CODES = PAGE.partition("## Exit codes")[2].partition("##")[0]
COMMANDS = {"run", "attack", "play", "capacity", "scorecard", "fingerprint", "compare", "conform", "diff"}


@cache
def structs() -> dict[str, dict[str, str]]:
    """What the page says of each struct: its fields and their types."""
    found = {}
    for name, body in re.findall(r"^### `([A-Z]\w+)`\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", body, re.MULTILINE)
        found[name] = {field: re.sub(r"\[(\w+)\]\(#\w+\)", r"\1", kind) for field, kind, _ in rows}
    return found


def wrong(value: Any, kind: str, where: str = "report") -> list[str]:
    """Where a value is not what the page says."""
    if kind.startswith("object of "):
        values = value.items() if isinstance(value, dict) else [("?", ...)]
        return [each for key, item in values for each in wrong(item, kind[10:], f"{where}.{key}")]
    if kind.startswith("array of "):
        items = value if isinstance(value, list) else [...]
        return [each for item in items for each in wrong(item, kind[9:], f"{where}[]")]
    if kind in structs():
        fields = structs()[kind]
        if not isinstance(value, dict) or list(value) != list(fields):
            return [f"{where}: {value!r} has not the fields {list(fields)}"]
        return [each for name, item in value.items() for each in wrong(item, fields[name], f"{where}.{name}")]
    fits = {
        "string": isinstance(value, str),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "number or null": value is None or isinstance(value, int | float),
        "true or false": isinstance(value, bool),
        "[number, number]": isinstance(value, list) and len(value) == 2,
    }
    return [] if fits[kind] else [f"{where}: {value!r} is no {kind}"]


@pytest.mark.parametrize("kind", sorted(set(reports.KINDS) - {"hostile"}))
def test_a_report_is_what_the_page_says(kind: str) -> None:
    written = json.loads(msgspec.json.encode(reports.KINDS[kind]()))
    assert wrong(written, "Report") == []
    assert f"This is schema {SCHEMA}." in PAGE


def test_a_difference_is_found() -> None:
    written = json.loads(msgspec.json.encode(reports.attack()))
    assert wrong({**written, "seed": "7"}, "Report")
    assert wrong({**written, "more": 1}, "Report")
    assert wrong({**written, "phases": [{**written["phases"][0], "spread": None}]}, "Report")
    assert wrong({**written, "figures": {"held": "many"}}, "Report")


def test_every_exit_code_is_there() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", EXIT_CODES, re.MULTILINE)}
    assert codes == {0, 1, cli.BAD_FLAGS, 3, cli.REFUSED, 130}


def test_names_and_numbers_are_those_of_the_code() -> None:
    for words in (target.CONSENT_PATH, target.CONSENT_TEXT, exports.PAGE, exports.JSON, exports.JUNIT):
        assert f"`{words}`" in PAGE
    assert f"later than {LAG_LIMIT_MS:g} ms" in PAGE
    assert set(re.findall(r"^\| `loadgen (\w+)", PAGE, re.MULTILINE)) == COMMANDS
    for command in COMMANDS:
        assert cli.app[command].help
