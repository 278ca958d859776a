"""`--report DIR`: report.html for people, report.json and figures.csv for programs, junit.xml for CI systems.

Owns: the names of the files, and their directory. May not: know what is in them.
"""

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loadgen import exports, page
from loadgen.report import Report
from loadgen.target import UsageError

PAGE: Final = "report.html"
JSON: Final = "report.json"
JUNIT: Final = "junit.xml"


def json_of(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


_FILES: Final[Mapping[str, Callable[[Report], str]]] = {
    PAGE: page.page_of,
    JSON: json_of,
    JUNIT: exports.junit_of,
    "figures.csv": exports.csv_of,
    "metrics.txt": exports.openmetrics_of,
    "latencies.hlog": exports.hdr_log_of,
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
