"""The train enters the tunnel."""

from loadgen.personas import persona
from loadgen.personas._polling import HeldPoll
from loadgen.personas._vanishing import Vanishing


@persona
class PollAbandon(HeldPoll, Vanishing):
    """Opens a long-poll and vanishes without FIN while it is held.

    The server learns nothing until it writes, and then only that nobody acknowledges. Where a held poll is a task or
    a thread that waits for the news, and writes without a deadline, it waits for as long as TCP sends again: 15 min.
    """

    __slots__ = ()

    name = "poll-abandon"

    def on_connected(self) -> None:
        """Stay for a moment."""
        super().on_connected()
        self.vanish_soon()
