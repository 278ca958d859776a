"""junit.xml: the report for a program that runs tests and counts failures.

Owns: which parts of a report are a test case. Each attack of a scorecard is one, and each run of a comparison; of a
command that has no parts there is one for the verdict. What fell short is a failure; a run that says nothing about the
target is an error. May not: judge.
"""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

from loadgen import wording
from loadgen.report import Outcome, Report

#: The element that says how a case ended; a case without one passed.
_ELEMENTS: Final = {
    Outcome.FELL_SHORT: "failure",
    Outcome.INVALID: "error",
    Outcome.INTERRUPTED: "error",
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
    cases = list(map(_case, wording.part_names(parts), parts))
    suite = ET.Element(
        "testsuite",
        name=f"loadgen {report.command}",
        timestamp=wording.printable(report.started),
        time=f"{report.seconds:.2f}",
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("target", report.target), ("seed", f"{report.seed}"), ("replay", wording.replay(report))):
        ET.SubElement(properties, "property", name=name, value=wording.printable(value))
    suite.extend(cases)
    return suite


def _case(name: str, part: Report) -> ET.Element:
    case = ET.Element("testcase", classname="loadgen", name=wording.printable(name), time=f"{part.seconds:.2f}")
    element = _ELEMENTS.get(part.outcome)
    if element is not None:
        reasons = part.verdict.reasons or [wording.SENTENCES[part.outcome]]
        ended = ET.SubElement(case, element, message=wording.printable(reasons[0]), type=part.verdict.outcome)
        ended.text = "\n".join(map(wording.printable, reasons))
    told = ET.SubElement(case, "system-out")
    told.text = "\n".join(_lines(part))
    return case


def _lines(part: Report) -> list[str]:
    return [
        f"{wording.printable(name)}: {wording.figure(name, value)}"
        for name, value in part.figures.items()
        if value is not None
    ]
