"""What a setting is made of: its unit, its section, its bounds, and the complaint when a value is outside them.

Owns: `Spec`, the kinds of field that settings are written with, and `ConfigError`. May not: import our modules or
trio, or know any setting by name; fields.py writes them down.

    head_deadline: float = deadline(10.0, "From accept to the end of the head.", "cowboy 5, nginx 60")
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

DAY = 86_400.0  # s; the largest deadline that is still a deadline


class ConfigError(Exception):
    """A value that cannot be used. `flag` is its name on the command line without dashes; empty if it has no flag."""

    def __init__(self, flag: str, message: str) -> None:
        super().__init__(f"--{flag}: {message}" if flag else message)
        self.flag = flag
        self.message = message


class Unit(Enum):
    """What a number counts; the value is printed behind it."""

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
    """What a limit bounds where several workers serve; the value is what `chatserver limits` says of it then."""

    #: one peer, room or message: the number of workers does not matter
    ALIKE = ""
    #: all workers together: each has its share
    DIVIDED = "divided among the workers"
    #: the same, of connections that the kernel spreads at random: a share has room for the unevenness
    SPREAD = "divided among the workers, with room for the kernel's uneven spread"
    #: each worker by itself: all together allow up to so many times as much
    PER_WORKER = "in each worker by itself"
    #: the same, unless processes tell each other what they have allowed
    SHARED = "in each worker by itself; with --shared, one rate for all processes"


#: What stands for the value in `--help`; any other unit counts something: N.
_PLACEHOLDERS = {Unit.SECONDS: "SECONDS", Unit.BYTES: "BYTES", Unit.BYTES_PER_SECOND: "BYTES"}


class Section(Enum):
    """Where a setting stands in `--help` and in `chatserver limits`; the value is the heading."""

    SERVICE = "Service"
    ADMISSION = "Admission"
    DEADLINES = "Deadlines"
    SIZES = "Sizes"
    RATES = "Rates"
    MEMORY = "Memory and retention"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a field means and what it may be; lives in the field's metadata."""

    section: Section
    meaning: str
    reason: str = ""
    unit: Unit = Unit.NONE
    minimum: float = 0
    maximum: float = math.inf
    #: what 0 means, below `minimum` though it is, or an empty text or list; None: 0 is a number like any other
    zero: str | None = None
    placeholder: str = ""  # stands for a text in `--help`
    #: reads a text, or each of several; raises ValueError for one of another form
    form: Callable[[str], object] | None = None
    sharing: Sharing = Sharing.ALIKE

    @property
    def metavar(self) -> str:
        """What stands for the value in `--help`."""
        return self.placeholder or _PLACEHOLDERS.get(self.unit, "N")

    def check(self, flag: str, value: object) -> None:
        """Hold a number against the bounds, and texts that are not empty against their form."""
        if self.zero is not None and not value:
            return
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(flag, f"{value} is not a finite number")
        if isinstance(value, int | float) and not isinstance(value, bool):
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
    """Return a number as people write it, with no exponent and every digit: `1048576`, `0.1`."""
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):{grouping}}"
    return f"{Decimal(str(value)):{grouping}f}"


def setting(
    section: Section, default: Any, meaning: str, reason: str = "", unit: Unit = Unit.NONE,
    minimum: float = 0, maximum: float = math.inf, **more: Any,
) -> Any:  # fmt: skip
    """A field of `Settings`; `more` is what else a `Spec` has."""
    spec = Spec(section, meaning, reason, unit, minimum, maximum, **more)
    return dataclasses.field(default=default, metadata={"spec": spec})
