"""One that says it has said all."""

from loadgen.personas import persona
from loadgen.personas._polling import HeldPoll


@persona
class PollHalfclose(HeldPoll):
    """Opens a long-poll and sends FIN behind it: it will not say more, and reads on.

    It may (RFC 9112 section 9.6: that does not mean that it "is no longer interested in a response"), and `nc -N` and
    some proxies do. A server that takes it for gone leaves somebody waiting; one that never notices keeps the polls of
    all who are gone.
    """

    __slots__ = ()

    name = "poll-halfclose"

    def on_connected(self) -> None:
        """Say that this was all."""
        super().on_connected()
        self.finish_sending()
