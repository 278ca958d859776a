"""What the pollers who misbehave ask for. No persona itself."""

from loadgen import wire
from loadgen.client import Attacker, Needs


class HeldPoll(Attacker):
    """Asks for a long-poll in a room where nobody speaks, so that it is held for all of its wait."""

    __slots__ = ()

    needs = Needs.CHAT

    def opening(self) -> bytes:
        """Ask."""
        place = self.cohort.place
        room = f"{self.room[:57]}.silent"  # names have up to 64 characters
        return wire.request("GET", place.poll_path.format(room=room, wait=place.poll_wait_seconds), place.host)
