"""The report for other programs, and `--report DIR`: page, Markdown, JSON, CSV, OpenMetrics text, HDR log, junit.xml.

Owns: these formats, which name no figure, and the files. In junit.xml each part is a test case: a target that fell
short is a failure, a run that says nothing about it an error. May not: judge.
"""

import csv
import errno
import io
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from loadgen.net.target import UsageError
from loadgen.output import sections, wording
from loadgen.output.page.document import page_of
from loadgen.output.sections import Section
from loadgen.report import format as fmt
from loadgen.report.schema import Report, Tone

#: The element of junit.xml for a case that did not pass.
_ELEMENTS: Final = {Tone.BAD: "failure", Tone.DOUBT: "error"}

#: What begins HTML in Markdown or ends a cell, and the backslash, which keeps them from it.
_MARKUP: Final = re.compile(r"[<|\\]")


def parts_of(report: Report) -> list[tuple[str, Report]]:
    parts = report.parts or [report]
    return list(zip(wording.part_names(parts), parts, strict=True))


def markdown_of(report: Report) -> str:
    """For documents: the sections of the terminal, with all columns that figures.py declares."""
    reasons = map(_escaped, wording.main_reasons(report) + report.verdict.notes)
    facts = [*reasons, f"`{wording.replay(report)}`, {report.started}"]
    lines = [f"## {report.command}: {report.outcome}", "", *(f"- {fact}" for fact in facts), ""]
    return fmt.printable_lines("\n".join(lines)) + "\n" + markdown(sections.everything(report, wide=True))


def markdown(found: Iterable[Section]) -> str:
    return "\n".join(map(_as_markdown, found))


def _as_markdown(section: Section) -> str:
    lines = [f"### {_escaped(section.title)}", "", _markdown_row(column.name for column in section.columns)]
    lines += ["|" + " --- |" * len(section.columns), *map(_markdown_row, section.rows)]
    lines += ["", *(f"{_escaped(note)}\n" for note in section.notes)]
    return fmt.printable_lines("\n".join(lines))


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_escaped(cell).replace("\n", " ") for cell in cells) + " |"


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", text)


def csv_of(report: Report) -> str:
    """A line for each figure of each part; the value is empty if it was not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("part", "target", "verdict", "figure", "value", "unit", "meaning"))
    for name, part in parts_of(report):
        for figure, value in part.figures.items():
            cell = "" if value is None else f"{value:.10g}"
            words = (name, part.target, part.outcome, figure)
            tail = (wording.declared(figure).unit, part.meanings.get(figure, ""))
            writer.writerow([*map(fmt.printable, words), cell, *map(fmt.printable, tail)])
    return text.getvalue()


def openmetrics_of(report: Report) -> str:
    """Every figure that was measured, as a gauge with the part and the target as labels."""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415  (quick --help)
    from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415

    parts, gauges = parts_of(report), CollectorRegistry()
    meanings = {name: meaning for _, part in parts for name, meaning in part.meanings.items()}
    for name in dict.fromkeys(name for _, part in parts for name in part.figures):
        values = [(part, each.target, value) for part, each in parts if (value := each.figures.get(name)) is not None]
        if values:
            unit = wording.declared(name).unit
            meaning = fmt.printable(meanings.get(name, "")) + (f" ({unit})" if unit else "")
            gauge = Gauge(f"loadgen_{name}", meaning, ("part", "target"), registry=gauges)
            for part, target, value in values:
                gauge.labels(fmt.printable(part), fmt.printable(target)).set(value)
    text: bytes = generate_latest(gauges)  # type: ignore[no-untyped-call]
    return text.decode()


def hdr_log_of(report: Report) -> str:
    """The whole distribution of each group in each phase, tagged, for HdrHistogram's own tools."""
    lines = [
        "#[Histogram log format version 1.2]",
        fmt.printable(f"#loadgen {report.command} {report.target}, microseconds"),
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    for name, row in ((name, row) for name, part in parts_of(report) for row in part.phases if row.histogram):
        tag = fmt.printable(f"{name}: {row.what}: {row.name}").replace(",", ";").replace(" ", "_")
        # seconds, but the maximum is in milliseconds
        lines.append(f"Tag={tag},{0:f},{row.seconds:f},{row.spread.max_ms or 0:f},{row.histogram}")
    return "\n".join(lines) + "\n"


def junit_of(report: Report) -> str:
    judged = wording.judges_parts(report)
    cases = [_case(name, part, judged=judged) for name, part in parts_of(report)]
    counts = {
        f"{element}s": str(sum(case.find(element) is not None for case in cases)) for element in _ELEMENTS.values()
    }
    root = ET.Element("testsuites", counts, tests=str(len(cases)), time=f"{report.seconds:.2f}")
    named = {"name": fmt.printable(f"loadgen {report.command}"), "timestamp": fmt.printable(report.started)}
    suite = ET.SubElement(root, "testsuite", named | root.attrib)
    properties = ET.SubElement(suite, "properties")
    for name, value in (("target", report.target), ("seed", f"{report.seed}"), ("replay", wording.replay(report))):
        ET.SubElement(properties, "property", name=name, value=fmt.printable(value))
    suite.extend(cases)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text.decode()


def _case(name: str, part: Report, *, judged: bool) -> ET.Element:
    case = ET.Element("testcase", classname="loadgen", name=fmt.printable(name), time=f"{part.seconds:.2f}")
    element = _ELEMENTS.get(part.outcome.tone)
    if element is not None and (judged or element == "error"):
        reasons = part.verdict.reasons or [part.outcome.sentence]
        ended = ET.SubElement(case, element, message=fmt.printable(reasons[0]), type=part.outcome)
        ended.text = "\n".join(map(fmt.printable, reasons))
    measured = {name: value for name, value in part.figures.items() if value is not None}
    output = ET.SubElement(case, "system-out")
    output.text = "\n".join(f"{fmt.printable(name)}: {wording.figure(name, value)}" for name, value in measured.items())
    return case


def json_of(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


FILES: Final[Mapping[str, Callable[[Report], str]]] = {
    "report.html": page_of,
    "report.md": markdown_of,
    "report.json": json_of,
    "junit.xml": junit_of,
    "figures.csv": csv_of,
    "metrics.txt": openmetrics_of,
    "latencies.hlog": hdr_log_of,
}


@contextmanager
def _writing(directory: str) -> Iterator[None]:
    """Name the flag if the report cannot be written, as on a full disk."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"--report: cannot write {directory!r}: {error.strerror or error}") from None


def require(directory: str | None) -> None:
    """Make the directory, if any, before anything is measured, and remove what an earlier run left in it.

    So no run ends without its report, and none that measured nothing with that of another.
    """
    if directory is None:
        return
    with _writing(directory):
        Path(directory).mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for name in FILES:
            (Path(directory) / name).unlink(missing_ok=True)


def save(report: Report, directory: str) -> None:
    require(directory)
    with _writing(directory), TemporaryDirectory(dir=directory) as beside:
        for name, text_of in FILES.items():  # a full disk leaves no half of a file
            file = Path(beside) / name
            file.write_text(text_of(report), encoding="utf-8")
            file.replace(Path(directory) / name)
