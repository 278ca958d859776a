"""What a figure is: one declaration from which every output is made.

Owns: the shapes. A figure says its unit and meaning, what it must be (`bar`), the column it has in a table of attacks
and whether the page shows it large. May not: know any figure, see figures.py.
"""

from enum import Enum
from typing import Final, NamedTuple


class When(Enum):
    """What an experiment must have for a figure to be judged."""

    ALWAYS = "always"
    SPEAKERS = "clients speak on a schedule"
    ECHOES = "what is said comes back"
    GATHERED = "what is said comes back, and no client comes after the first message"
    NEWCOMERS = "newcomers came"
    NEIGHBOURS = "honest slow clients are beside it"
    KEPT = "messages were read again"
    MALFORMED = "malformed requests were sent"
    WATCHED = "the server's process is known"
    SHOWN = "never: only the colour of what is shown goes by it"


class Bar(NamedTuple):
    """What a figure must not be."""

    sign: str = ">"
    limit: float = 0
    when: When = When.ALWAYS
    far: bool = False  # the way to the target and back is added to the limit


class Column(NamedTuple):
    """A column of the tables that have a row for each attack. Figures of one heading share a cell."""

    heading: str
    spare: int  # what a narrow terminal may lose; the highest goes first


#: Columns from here on are in Markdown alone: docs have room for all that an attack is judged by.
MARKDOWN_ONLY: Final = 9


class Figure(NamedTuple):
    """One figure."""

    name: str
    unit: str
    meaning: str
    bar: Bar | None = None
    column: Column | None = None
    tile: str = ""  # the words below it where the page shows it large
    late: bool = False  # about how long something took, though its unit is no time
    group: str = ""

    @property
    def is_time(self) -> bool:
        """Whether it is about how long something took."""
        return self.late or self.unit == "ms"
