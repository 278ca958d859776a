"""A half-closed long-poll: the client has sent FIN and still waits for the answer."""

from typing import Final

from loadgen.personas import persona
from loadgen.personas._polling import HeldPoll

#: Who does it right answers at once: 8,000 who came back each second would be a flood, which is another attack.
RETURNS_SECONDS: Final = 10.0


@persona
class PollHalfclose(HeldPoll):
    """Opens a long-poll and sends FIN behind it: it will not say more, and reads on.

    It may (RFC 9112 section 9.6: that does not mean that it "is no longer interested in a response"), and `nc -N` and
    some proxies do. A server that takes it for gone leaves somebody waiting; one that never notices keeps the polls of
    all who are gone.
    """

    __slots__ = ()

    name = "poll-halfclose"
    returns_seconds = RETURNS_SECONDS

    def on_connected(self) -> None:
        """Say that this was all."""
        super().on_connected()
        self.finish_sending()
