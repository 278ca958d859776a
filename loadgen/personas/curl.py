"""A shell script behind the company's proxy."""

from enum import Enum, auto
from typing import Final

from loadgen.client import Cohort
from loadgen.personas import persona
from loadgen.personas.poll import Poll

#: How long the proxy leaves an answer lying before it takes it.
READS_AFTER_SECONDS: Final = 5.0

#: `sleep 3` in the script's loop.
PAUSE_SECONDS: Final = 3.0


class _Doing(Enum):
    PAUSING = auto()  # the proxy keeps the connection meanwhile
    DEAF = auto()  # it has asked, and nobody reads yet
    WAITING = auto()


@persona
class Curl(Poll):
    """A script that long-polls again and again, through a proxy that buffers and reads late.

    The proxy keeps its connection to the server open between two polls, and does not look at it for seconds after it
    asked. Closed between polls it makes a new one, and nobody notices; closed in a poll, the script has lost something.
    """

    __slots__ = ("_doing",)

    name = "curl"
    cycle_seconds = 2 * (PAUSE_SECONDS + READS_AFTER_SECONDS)
    slow = True
    usual_clients = 50

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._doing = _Doing.WAITING

    def on_answered(self) -> None:
        """Sleep before the next poll."""
        self._doing = _Doing.PAUSING
        self.hold()
        self.wake_in(PAUSE_SECONDS)

    def on_time(self, moment: float) -> None:
        """Ask; look; give up."""
        match self._doing:
            case _Doing.PAUSING:
                self._doing = _Doing.DEAF
                self.stop_reading()
                self.wake_in(READS_AFTER_SECONDS)
                self.send(self.request())
            case _Doing.DEAF:
                self._doing = _Doing.WAITING
                self.resume_reading()
                self.wait()
            case _Doing.WAITING:
                super().on_time(moment)

    def on_hangup(self, how: str) -> None:
        """Connect again, if that was between two polls."""
        if self._doing is _Doing.PAUSING:
            self._doing = _Doing.WAITING
            self.cohort.engine.reopen(self)
        else:
            self.fail(how)
