"""junit.xml: the report for a program that runs tests and counts failures.

Owns: which parts of a report are a test case. Each attack of a scorecard is one; a command without
parts is one itself. What fell short is a failure; a run that says nothing about the target is an error. The runs of a
comparison are cases that cannot fail, since it judges nobody. May not: judge.
"""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

from loadgen import format as fmt
from loadgen.format import Tone
from loadgen.report import Report

#: The element that says how a case ended; a case without one passed.
_ELEMENTS: Final = {
    Tone.BAD: "failure",
    Tone.DOUBT: "error",
}


def write(report: Report, path: Path) -> None:
    """Write the report as test cases."""
    suite = _suite(report)
    root = ET.Element("testsuites", {name: suite.get(name, "") for name in ("tests", "failures", "errors", "time")})
    root.append(suite)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _suite(report: Report) -> ET.Element:
    parts = report.parts or [report]
    judged = fmt.judges_parts(report)
    cases = [_case(name, part, judged=judged) for name, part in zip(fmt.part_names(parts), parts, strict=True)]
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
    told = ET.SubElement(case, "system-out")
    told.text = "\n".join(_lines(part))
    return case


def _lines(part: Report) -> list[str]:
    return [
        f"{fmt.printable(name)}: {fmt.figure(name, value)}" for name, value in part.figures.items() if value is not None
    ]
