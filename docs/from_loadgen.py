"""The blocks generated from the load generator's code: personas, figures, the report, the catalogue of attacks.

Owns: how each is shown. May not: state a fact itself; each comes from the module that owns it.
"""

import inspect
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import get_type_hints

from markdown_table import table

from loadgen import cli
from loadgen.cases import case as conform_case
from loadgen.clients.client import Client, Threat
from loadgen.conform import suite as conform_suite
from loadgen.conform import summary as conform_summary
from loadgen.fingerprint import probes
from loadgen.personas import registry, summary
from loadgen.report import figures, schema
from loadgen.report.figures import Figure
from loadgen.report.latency import Spread
from tests.attacks import catalogue


def _members(heading: str, wanted: Callable[[str], bool], *owners: type) -> str:
    """The methods and properties of these classes in order of definition, with the first line of each docstring."""
    rows = []
    for owner in owners:
        for name, member in vars(owner).items():
            is_told = isinstance(member, FunctionType | property) and inspect.getdoc(member)
            if name.startswith("_") or not is_told or not wanted(name):
                continue
            arguments = f"({_arguments(member)})" if isinstance(member, FunctionType) else ""
            rows.append((f"`{name}{arguments}`", (inspect.getdoc(member) or "").partition("\n")[0]))
    return table((heading, "to"), rows)


def _arguments(method: FunctionType) -> str:
    return ", ".join(list(inspect.signature(method).parameters)[1:])


def _is_hook(name: str) -> bool:
    return name == "opening" or name.startswith("on_")


def loadgen_flags() -> str:
    """Every flag; one that several commands have is one row."""
    commands: dict[tuple[str, str, str], list[str]] = {}
    for command in (name for name in cli.app if not name.startswith("-")):  # --help and --version are commands, too
        for flag in cli.app[command].assemble_argument_collection(parse_docstring=True):
            if flag.show and flag.name.startswith("--"):
                default = "required" if flag.required else cli.shown_default(flag.field_info.default) or ""
                value = flag.parameter.metavar or "|".join(flag.get_choices() or ())
                meaning = " ".join((flag.parameter.help or "").split())
                row = f"`{f'{flag.name} {value}'.rstrip()}`", default, meaning
                commands.setdefault(row, []).append(command)
    rows = ((flag, ", ".join(names), default, meaning) for (flag, default, meaning), names in commands.items())
    return table(("flag", "of", "default", "meaning"), rows)


def persona_hooks() -> str:
    """The methods of a persona that the engine calls."""
    return _members("the engine calls", _is_hook, Client)


def persona_acts() -> str:
    """The methods that a persona may call."""
    return _members("a persona calls", lambda name: not _is_hook(name), Client)


def personas_attackers() -> str:
    """The personas that attack, by what the target must speak."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, cls in registry().items():
        if not cls.honest:
            names[cls.needs.value].append(f"`{name}`")
    return table(("needs", "attackers"), ((needs, ", ".join(each)) for needs, each in names.items()))


def _honest_personas(*, slow: bool) -> str:
    rows = ((f"`{name}`", summary(cls)) for name, cls in registry().items() if cls.honest and cls.slow is slow)
    return table(("persona", "what it does"), rows)


def personas_honest() -> str:
    """The honest personas whose load is measured."""
    return _honest_personas(slow=False)


def personas_slow() -> str:
    """The slow but honest personas that no attack may hurt."""
    return _honest_personas(slow=True)


#: The structs of a report, in the order in which a reader meets them.
_STRUCTS = (
    schema.Report,
    schema.Verdict,
    schema.PhaseRow,
    Spread,
    schema.CohortRow,
    schema.Sample,
    schema.Table,
)
_FIELD = re.compile(r"^    ([a-z]\w*): [^#\n]*(?:# (.*))?$", re.MULTILINE)
_JSON_TYPES = (
    (re.compile(r"\bfloat \| None\b|\bint \| None\b"), "number or null"),
    (re.compile(r"\bdict\[str, (.+)\]"), r"object of \1"),
    (re.compile(r"\blist\[(.+)\]"), r"array of \1"),
    (re.compile(r"\btuple\[float, int\]"), "[number, number]"),
    (re.compile(r"\b(float|int)\b"), "number"),
    (re.compile(r"\b(str|Outcome)\b"), "string"),
    (re.compile(r"\bbool\b"), "true or false"),
)


def report_schema() -> str:
    """Every struct of a report: its fields, their JSON types, and the comments on them."""
    parts = [f"This is schema {schema.SCHEMA}. The file is one `Report`."]
    for struct in _STRUCTS:
        sources = (inspect.getsource(each) for each in struct.__mro__ if each.__module__ == struct.__module__)
        said = dict(_FIELD.findall("\n".join(sources)))
        rows = [(f"`{name}`", _json_type(hint), said[name]) for name, hint in get_type_hints(struct).items()]
        about = " ".join((struct.__doc__ or "").split()).replace("`None`", "`null`")
        parts.append(f"### `{struct.__name__}`\n\n{about}\n\n{table(('field', 'type', 'what it is'), rows)}")
    return "\n\n".join(parts)


def _json_type(hint: object) -> str:
    """The JSON type of a Python type; structs by their names."""
    words = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    words = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", words)
    for pattern, replacement in _JSON_TYPES:
        while pattern.search(words):
            words = pattern.sub(replacement, words)
    names = "|".join(struct.__name__ for struct in _STRUCTS)
    return re.sub(rf"\b({names})\b", lambda name: f"[{name[1]}](#{name[1].lower()})", words)


def _figures(meanings: Mapping[str, str]) -> str:
    return table(("figure", "what it is"), ((f"`{name}`", meaning) for name, meaning in meanings.items()))


def _own(known: Mapping[str, Figure]) -> str:
    """The figures that not every command has."""
    return _figures({name: each.meaning for name, each in known.items() if name not in figures.COMMON})


def figures_run() -> str:
    """The figures of `loadgen run`."""
    return _own(figures.RUN)


def figures_attack() -> str:
    """The figures of `loadgen attack`."""
    return _own(figures.ATTACK)


def figures_scorecard() -> str:
    """The totals of `loadgen scorecard`."""
    return _figures(figures.meanings(figures.SCORECARD))


def figures_capacity() -> str:
    """The figures of `loadgen capacity`."""
    return _figures(figures.meanings(figures.CAPACITY))


def figures_common() -> str:
    """The figures of the generator itself, which both commands report."""
    return _figures(figures.meanings(figures.COMMON))


def figures_fingerprint() -> str:
    """The counts of `loadgen fingerprint`; `good_practice` has a row for each of its other figures."""
    known = figures.meanings(probes.FIGURES)
    return _figures({name: told for name, told in known.items() if name not in probes.LIMITS})


def figures_conform() -> str:
    """The figures of `loadgen conform`."""
    return _figures(figures.meanings(conform_summary.FIGURES))


def conform_families() -> str:
    """The families of cases of `loadgen conform`."""
    numbers = Counter(case.family for case in conform_suite.CASES)
    return table(
        ("family", "of", "cases"),
        ((number, name, str(numbers[number])) for number, name in conform_case.FAMILIES.items()),
    )


def good_practice() -> str:
    """The probes of `loadgen fingerprint`, and how it judges their results."""
    return table(
        ("probe", "figure", "good", "what others do, and why"),
        ((limit.name, f"`{limit.figure}`", limit.bounds, limit.why) for limit in probes.LIMITS.values()),
    )


def _attacks(threat: Threat) -> str:
    known = registry()
    return table(
        ("attack", "what it does", "defence", "counted as", "what the attacker sees"),
        (
            (
                f"`{row.kind}`",
                summary(known[row.kind]).removesuffix("."),
                row.defence,
                ", ".join(f"`{reason.label}`" for reason in row.ends),
                row.told,
            )
            for row in catalogue.ROWS
            if known[row.kind].threat is threat
        ),
    )


def attacks_slow() -> str:
    """The slow attacks."""
    return _attacks(Threat.SLOW)


def attacks_greedy() -> str:
    """The greedy attacks."""
    return _attacks(Threat.GREEDY)


def attacks_malformed() -> str:
    """The malformed attacks."""
    return _attacks(Threat.MALFORMED)
