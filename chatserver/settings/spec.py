"""The parts of a setting: its unit, its section, its bounds, and the complaint about a value outside them.

Owns: `Spec`, the function that declares a setting, `ConfigError`, and the reading of a file that a flag names. May not:
import our modules or trio, or know any setting by name; fields.py declares them.

    head_deadline: float = deadline(10.0, "From accept to the end of the head.", "cowboy 5, nginx 60")
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from stat import S_ISREG
from typing import Any

DAY = 86_400.0  # s; the longest deadline that makes sense


class ConfigError(Exception):
    """A value that cannot be used. `flag` is its name on the command line without dashes; empty if it has no flag."""

    def __init__(self, flag: str, message: str) -> None:
        super().__init__(f"--{flag}: {message}" if flag else message)
        self.flag = flag
        self.message = message


def read_file(flag: str, path: Path) -> bytes:
    """The content of a file that is read again at SIGHUP. A read of a pipe may never end. Raises ConfigError."""
    try:
        if not S_ISREG(path.stat().st_mode):
            raise ConfigError(flag, f"{path} is no regular file, which is needed to read it again")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(flag, f"cannot read {path}: {error.strerror}") from None


class Unit(Enum):
    """The unit of a number; the value is printed after it."""

    NONE = ""
    SECONDS = "s"
    BYTES = "B"
    BYTES_PER_SECOND = "B/s"
    MESSAGES_PER_SECOND = "messages/s"
    REQUESTS_PER_SECOND = "requests/s"
    MESSAGES = "messages"
    CONNECTIONS = "connections"
    FIELDS = "fields"
    FRAGMENTS = "fragments"
    ROOMS = "rooms"


class Sharing(Enum):
    """How a limit applies to several workers; the value is its description in `chatserver limits`."""

    #: it bounds one peer, room or message, so the number of workers does not matter
    ALIKE = ""
    #: it bounds all workers together, and each has a share
    DIVIDED = "divided among the workers"
    #: as DIVIDED, for connections, which the kernel spreads at random: a share has room for the unevenness
    SPREAD = "divided among the workers, with room for the kernel's uneven spread"
    #: it bounds each worker by itself, so N workers allow up to N times as much, unless processes tell each other what
    #: they have allowed (--shared)
    SHARED = "in each worker by itself; with --shared, one rate for all processes"


#: The placeholder for the value in `--help`, by unit; for other units it is N.
_PLACEHOLDERS = {Unit.SECONDS: "SECONDS", Unit.BYTES: "BYTES", Unit.BYTES_PER_SECOND: "BYTES"}


class Section(Enum):
    """The section of a setting in `--help` and in `chatserver limits`; the value is the heading."""

    SERVICE = "Service"
    ADMISSION = "Admission"
    DEADLINES = "Deadlines"
    SIZES = "Sizes"
    RATES = "Rates"
    MEMORY = "Memory and retention"


@dataclass(frozen=True, slots=True)
class Spec:
    """The meaning and the allowed values of a field; kept in the field's metadata."""

    section: Section
    meaning: str
    reason: str = ""
    unit: Unit = Unit.NONE
    minimum: float = 0
    maximum: float = math.inf
    #: the meaning of 0, which is then allowed below `minimum`, or of an empty text or list; None: 0 is not special
    zero: str | None = None
    placeholder: str = ""  # for a text in `--help`
    #: checks a text, or each of several; raises ValueError if the format is wrong
    form: Callable[[str], object] | None = None
    sharing: Sharing = Sharing.ALIKE

    @property
    def metavar(self) -> str:
        """The placeholder for the value in `--help`."""
        return self.placeholder or _PLACEHOLDERS.get(self.unit, "N")

    def check(self, flag: str, value: object) -> None:
        """Check a number against its bounds, a list for entries, and non-empty texts against their format."""
        if self.zero is not None and not value:
            return
        if value == ():
            raise ConfigError(flag, f"at least one {self.placeholder.lower()} is needed")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(flag, f"{value} is not a finite number")
        if isinstance(value, int | float):
            self._check_bounds(flag, value)
        elif self.form is not None:
            try:
                for text in value if isinstance(value, tuple) else (value,):
                    self.form(str(text))
            except ValueError as error:
                raise ConfigError(flag, str(error)) from None

    def _check_bounds(self, flag: str, value: float) -> None:
        unit = f" {self.unit.value}" if self.unit.value else ""
        if value < self.minimum:
            also = f" (or 0: {self.zero})" if self.zero is not None else ""
            raise ConfigError(flag, f"{plain(value)}{unit} is below the minimum, {plain(self.minimum)}{unit}{also}")
        if value > self.maximum:
            raise ConfigError(flag, f"{plain(value)}{unit} is above the maximum, {plain(self.maximum)}{unit}")


def plain(value: float, grouping: str = "") -> str:
    """Return a number with all digits and no exponent: `1048576`, `0.1`."""
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):{grouping}}"
    return f"{Decimal(str(value)):{grouping}f}"


def setting(
    section: Section, default: Any, meaning: str, reason: str = "", unit: Unit = Unit.NONE,
    minimum: float = 0, maximum: float = math.inf, **more: Any,
) -> Any:  # fmt: skip
    """Declare a field of `Settings`; `more` are further fields of `Spec`."""
    spec = Spec(section, meaning, reason, unit, minimum, maximum, **more)
    return dataclasses.field(default=default, metadata={"spec": spec})
