"""The blocks of these pages that the code writes: `python docs/tables.py` brings them up to date.

Owns: what stands between `<!-- from code: NAME -->` and `<!-- end -->` in the pages beside it. May not: know a fact;
each comes from the module that owns it. With `--check` nothing is written: the pages that are stale are named, and the
exit code is 1. tests/test_docs.py runs that, so a table cannot disagree with the program.
"""

import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FunctionType
from typing import get_type_hints

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the catalogue, which is no part of what is installed

from chatserver.net.phases import RULES, Phase, PhaseLimits
from chatserver.reasons import CloseCode, Contract, ErrorCode, Reason
from chatserver.settings.describe import shown_value
from chatserver.settings.fields import SPECS, Settings, flag_name
from chatserver.settings.spec import Section
from loadgen import figures, report
from loadgen.client import Attacker, Client
from loadgen.fingerprint import neighbour, practice, probes
from loadgen.latency import Spread
from loadgen.personas import registry, summary
from tests.attacks.catalogue import ROWS, Row

DOCS = Path(__file__).parent
PYPROJECT = DOCS.parent / "pyproject.toml"

_BLOCK = re.compile(r"(<!-- from code: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_DEPENDENCY = re.compile(r'^  "([a-z0-9-]+)([^"]*)", +# (.+)$', re.MULTILINE)
_CONTRACTS = {
    Contract.COME_BACK: "come back",
    Contract.BACK_OFF: "back off",
    Contract.DO_NOT: "do not retry",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *map(list, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def contracts() -> str:
    """What the words in the other tables ask of a client."""
    return table(("in the tables", "a client should"), ((_CONTRACTS[each], each.value) for each in Contract))


def error_codes() -> str:
    """Every `code` of an error."""
    rows = ((f"`{each.code}`", str(each.status), each.sentence, _CONTRACTS[each.contract]) for each in ErrorCode)
    return table(("code", "status", "what it says", "client"), rows)


def close_codes() -> str:
    """Every code of a close frame, with the reasons that use it."""
    rows = []
    for code in CloseCode:
        reasons = [reason for reason in Reason if reason.close_code is code]
        asked = sorted({_CONTRACTS[reason.contract] for reason in reasons})
        rows.append((f"`{code.value}`", ", ".join(f"`{reason.label}`" for reason in reasons), " or ".join(asked)))
    return table(("code", "reasons", "client"), rows)


def close_reasons() -> str:
    """Every reason for which a connection ends."""
    rows = (
        (f"`{each.label}`", each.sentence, str(each.close_code.value), _CONTRACTS[each.contract]) for each in Reason
    )
    return table(("reason", "what it says", "code", "client"), rows)


def limits() -> str:
    """Every limit that a client can meet."""
    defaults = Settings()
    shown = (Section.ADMISSION, Section.DEADLINES, Section.SIZES, Section.RATES)
    rows = (
        (f"`--{flag_name(name)}`", shown_value(name, getattr(defaults, name)), spec.meaning)
        for name, spec in SPECS.items()
        if spec.section in shown
    )
    return table(("flag", "default", "what it bounds"), rows)


def phases() -> str:
    """The table of phases."""
    spans = PhaseLimits().seconds()
    rows = (
        (
            f"`{phase.name}`",
            rule.waits_for,
            f"{spans[phase]:g} s" + (", in total" if rule.total else ""),
            f"`{rule.expiry.label}`" if rule.expiry else "no fault",
            rule.precedent,
        )
        for phase, rule in RULES.items()
    )
    return table(("phase", "waits for", "default", "its end counts as", "what others do"), rows)


def phase_diagram() -> str:
    """The moves between phases. Phases that lead to the same phases share a box."""
    boxes: dict[frozenset[Phase], list[Phase]] = {}
    for phase, rule in RULES.items():
        boxes.setdefault(rule.then, []).append(phase)
    if any(len(box) > 1 and not set(box) <= then for then, box in boxes.items()):
        raise ValueError("the page says that any move within a box is allowed; here is one that is not")
    name_of = {phase: "_".join(each.name for each in box) for box in boxes.values() for phase in box}
    lines = ["```mermaid", "flowchart LR"]
    for box in boxes.values():
        if len(box) > 1:
            lines += [f'  subgraph {name_of[box[0]]}[" "]', *(f"    {phase.name}" for phase in box), "  end"]
        else:
            lines.append(f"  {box[0].name}")
    for then, box in boxes.items():
        outside = [phase for phase in Phase if phase in then and phase not in box and phase is not Phase.CLOSING]
        for target in outside:
            whole = [phase for phase in Phase if name_of[phase] == name_of[target]]
            if not set(whole) <= set(outside):
                lines.append(f"  {name_of[box[0]]} --> {target.name}")
            elif target is whole[0]:
                lines.append(f"  {name_of[box[0]]} --> {name_of[target]}")
    return "\n".join([*lines, "```"])


def dependencies() -> str:
    """What the program is built on, with the line of reason that pyproject.toml gives."""
    text = PYPROJECT.read_text(encoding="utf-8")
    wanted = tomllib.loads(text)["project"]["dependencies"]
    found = _DEPENDENCY.findall(text[: text.index("[project.optional-dependencies]")])
    if [name + bound for name, bound, _ in found] != wanted:
        raise ValueError("a dependency in pyproject.toml has no line of reason")
    return table(("package", "why"), ((f"`{name}{bound}`", reason) for name, bound, reason in found))


def _members(heading: str, wanted: Callable[[str], bool], *owners: type) -> str:
    """The methods and properties of these classes, in the order of their definition, by their docstrings."""
    rows = []
    for owner in owners:
        for name, member in vars(owner).items():
            if name.startswith("_") or not isinstance(member, FunctionType | property) or not wanted(name):
                continue
            arguments = f"({_arguments(member)})" if isinstance(member, FunctionType) else ""
            rows.append((f"`{name}{arguments}`", (inspect.getdoc(member) or "").partition("\n")[0]))
    return table((heading, "to"), rows)


def _arguments(method: FunctionType) -> str:
    return ", ".join(list(inspect.signature(method).parameters)[1:])


def _is_hook(name: str) -> bool:
    return name == "opening" or name.startswith("on_")


def persona_hooks() -> str:
    """What the engine calls of a persona."""
    return _members("the engine calls", _is_hook, Client)


def persona_acts() -> str:
    """What a persona may do."""
    return _members("a persona calls", lambda name: not _is_hook(name), Client, Attacker)


def _personas(wanted: Callable[[type[Client]], bool]) -> str:
    rows = (
        (f"`{name}`", summary(cls), cls.needs.value, f"{cls.usual_clients:,}")
        for name, cls in registry().items()
        if wanted(cls)
    )
    return table(("persona", "what it does", "needs", "usual"), rows)


def personas_attackers() -> str:
    """Every attack."""
    return _personas(lambda cls: not cls.honest)


def personas_honest() -> str:
    """Those whose load is measured."""
    rows = ((f"`{name}`", summary(cls)) for name, cls in registry().items() if cls.honest and not cls.slow)
    return table(("persona", "what it does"), rows)


def personas_slow() -> str:
    """The neighbours that no attack may hurt."""
    return _personas(lambda cls: cls.honest and cls.slow)


#: The structs of a report, in the order in which a reader meets them.
_STRUCTS = (
    report.Report,
    report.Verdict,
    report.PhaseRow,
    Spread,
    report.CohortRow,
    report.Sample,
    report.Table,
)
_FIELD = re.compile(r"^    ([a-z]\w*): [^#\n]*(?:# (.*))?$", re.MULTILINE)
_JSON_TYPES = (
    (re.compile(r"\bfloat \| None\b|\bint \| None\b"), "number or null"),
    (re.compile(r"\bdict\[str, (.+)\]"), r"object of \1"),
    (re.compile(r"\blist\[(.+)\]"), r"array of \1"),
    (re.compile(r"\btuple\[float, int\]"), "[number, number]"),
    (re.compile(r"\b(float|int)\b"), "number"),
    (re.compile(r"\bstr\b"), "string"),
    (re.compile(r"\bbool\b"), "true or false"),
)


def report_schema() -> str:
    """Every struct of a report: its fields, what they are in JSON, and what the source says of them."""
    parts = [f"This is schema {report.SCHEMA}. The file is one `Report`."]
    for struct in _STRUCTS:
        said = dict(_FIELD.findall(inspect.getsource(struct)))
        rows = [(f"`{name}`", _json_type(hint), said[name]) for name, hint in get_type_hints(struct).items()]
        about = " ".join((struct.__doc__ or "").split()).replace("`None`", "`null`")
        parts.append(f"### `{struct.__name__}`\n\n{about}\n\n{table(('field', 'type', 'what it is'), rows)}")
    return "\n\n".join(parts)


def _json_type(hint: object) -> str:
    """A type as JSON has it; structs by their names."""
    words = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    words = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", words)
    for pattern, replacement in _JSON_TYPES:
        while pattern.search(words):
            words = pattern.sub(replacement, words)
    names = "|".join(struct.__name__ for struct in _STRUCTS)
    return re.sub(rf"\b({names})\b", lambda name: f"[{name[1]}](#{name[1].lower()})", words)


def _figures(meanings: Mapping[str, str]) -> str:
    return table(("figure", "what it is"), ((f"`{name}`", meaning) for name, meaning in meanings.items()))


def figures_run() -> str:
    """The figures of `loadgen run`."""
    return _figures({name: meaning for name, meaning in figures.RUN.items() if name not in figures.COMMON})


def figures_attack() -> str:
    """The figures of `loadgen attack`."""
    return _figures({name: meaning for name, meaning in figures.ATTACK.items() if name not in figures.COMMON})


def figures_common() -> str:
    """What both say of the generator itself."""
    return _figures(figures.COMMON)


def figures_fingerprint() -> str:
    """The figures of `loadgen fingerprint`."""
    return _figures(practice.FIGURES)


def good_practice() -> str:
    """What `loadgen fingerprint` looks for, and what it thinks of what it finds."""
    names = {probe.figure: probe.name for probe in (*probes.FIRST, *probes.ALONGSIDE)}
    names[neighbour.FIGURE] = neighbour.NAME
    return table(
        ("probe", "figure", "good", "what others do, and why"),
        ((names[limit.figure], f"`{limit.figure}`", limit.bounds, limit.why) for limit in practice.LIMITS.values()),
    )


def _attacks(rows: Iterable[Row]) -> str:
    known = registry()
    return table(
        ("attack", "what it does", "what stands against it", "counted as", "what it is told"),
        (
            (
                f"`{row.kind}`",
                summary(known[row.kind]).removesuffix("."),
                row.defence,
                ", ".join(f"`{reason.label}`" for reason in row.ends),
                row.told,
            )
            for row in rows
        ),
    )


def attacks_slow() -> str:
    """What waits."""
    return _attacks(row for row in ROWS if not row.greedy and not row.malformed)


def attacks_greedy() -> str:
    """What takes."""
    return _attacks(row for row in ROWS if row.greedy)


def attacks_malformed() -> str:
    """What is wrong."""
    return _attacks(row for row in ROWS if row.malformed)


BLOCKS: dict[str, Callable[[], str]] = {
    "contracts": contracts,
    "error-codes": error_codes,
    "close-codes": close_codes,
    "close-reasons": close_reasons,
    "limits": limits,
    "phases": phases,
    "phase-diagram": phase_diagram,
    "dependencies": dependencies,
    "persona-hooks": persona_hooks,
    "persona-acts": persona_acts,
    "personas-attackers": personas_attackers,
    "personas-honest": personas_honest,
    "personas-slow": personas_slow,
    "report-schema": report_schema,
    "attacks-slow": attacks_slow,
    "attacks-greedy": attacks_greedy,
    "attacks-malformed": attacks_malformed,
    "figures-run": figures_run,
    "figures-attack": figures_attack,
    "figures-common": figures_common,
    "figures-fingerprint": figures_fingerprint,
    "good-practice": good_practice,
}


def filled(text: str) -> str:
    """A page with its blocks as the code has them now."""
    return _BLOCK.sub(lambda block: f"{block[1]}{BLOCKS[block[2]]()}\n{block[3]}", text)


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` only look."""
    stale = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(page)
    for page in stale:
        if "--check" in arguments:
            sys.stdout.write(f"{page.name} is stale; run: python docs/tables.py\n")
        else:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
