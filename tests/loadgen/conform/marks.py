"""Reading the report of a conformance run."""

from loadgen.report.schema import Report


def marks(report: Report) -> dict[str, str]:
    """The mark of each case."""
    return {row[0]: row[1] for part in report.parts for table in part.tables for row in table.rows}


def reasons(report: Report) -> dict[str, str]:
    """What came of each case."""
    return {row[0]: row[-1] for part in report.parts for table in part.tables for row in table.rows}


def only(report: Report, mark: str) -> set[str]:
    return {case for case, found in marks(report).items() if found == mark}
