"""The report for other programs, and `--report DIR`: the page, JSON, junit.xml.

Owns: these formats, which name no figure, and the files. In junit.xml each part is a test case: a target that fell
short is a failure, a run that says nothing about it an error. May not: judge.
"""

import errno
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loadgen import format as fmt
from loadgen import page
from loadgen.format import Tone
from loadgen.report import Report
from loadgen.target import UsageError

#: The element of junit.xml for a case that did not pass.
_ELEMENTS: Final = {Tone.BAD: "failure", Tone.DOUBT: "error"}


def parts_of(report: Report) -> list[tuple[str, Report]]:
    parts = report.parts or [report]
    return list(zip(fmt.part_names(parts), parts, strict=True))


def junit_of(report: Report) -> str:
    suite = _suite(report)
    root = ET.Element("testsuites", {name: suite.get(name, "") for name in ("tests", "failures", "errors", "time")})
    root.append(suite)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text.decode()


def _suite(report: Report) -> ET.Element:
    judged = fmt.judges_parts(report)
    cases = [_case(name, part, judged=judged) for name, part in parts_of(report)]
    suite = ET.Element(
        "testsuite",
        name=f"loadgen {report.command}",
        timestamp=fmt.printable(report.started),
        time=f"{report.seconds:.2f}",
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("target", report.target), ("seed", f"{report.seed}"), ("replay", fmt.replay(report))):
        ET.SubElement(properties, "property", name=name, value=fmt.printable(value))
    suite.extend(cases)
    return suite


def _case(name: str, part: Report, *, judged: bool) -> ET.Element:
    case = ET.Element("testcase", classname="loadgen", name=fmt.printable(name), time=f"{part.seconds:.2f}")
    element = _ELEMENTS.get(fmt.TONES[part.outcome])
    if element is not None and judged:
        reasons = part.verdict.reasons or [fmt.SENTENCES[part.outcome]]
        ended = ET.SubElement(case, element, message=fmt.printable(reasons[0]), type=part.verdict.outcome)
        ended.text = "\n".join(map(fmt.printable, reasons))
    measured = {name: value for name, value in part.figures.items() if value is not None}
    told = ET.SubElement(case, "system-out")
    told.text = "\n".join(f"{fmt.printable(name)}: {fmt.figure(name, value)}" for name, value in measured.items())
    return case


PAGE: Final = "report.html"
JSON: Final = "report.json"
JUNIT: Final = "junit.xml"


def json_of(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


_FILES: Final[Mapping[str, Callable[[Report], str]]] = {
    PAGE: page.page_of,
    JSON: json_of,
    JUNIT: junit_of,
}


def require(directory: str | None) -> None:
    """Make the directory, if any, before anything is measured, so that no run ends without its report."""
    if directory is None:
        return
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot(directory, error.strerror or str(error)) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _cannot(directory, os.strerror(errno.EACCES))


def save(report: Report, directory: str) -> None:
    require(directory)
    try:
        for name, text_of in _FILES.items():
            (Path(directory) / name).write_text(text_of(report), encoding="utf-8")
    except OSError as error:
        raise _cannot(directory, error.strerror or str(error)) from None


def _cannot(directory: str, why: str) -> UsageError:
    return UsageError(f"--report: cannot write into {directory!r}: {why}")
