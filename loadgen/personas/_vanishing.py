"""What those share who vanish: no FIN, no RST, no acknowledgement. No persona itself.

A cable cut, a battery empty, a phone in a tunnel for good. Whether the server has found out is asked of the kernel
where it can know, so that the question is no sign of life. Elsewhere the client comes back every minute and knocks: a
server that has forgotten it answers with RST.
"""

from typing import ClassVar, Final

from loadgen.client import Attacker

#: Long enough for the server to have taken what was sent, and to have said what it says at once.
ALIVE_SECONDS: Final = 1.0

#: How often the kernel is asked, so the precision of the kill times. 11 us each.
LOOK_EVERY_SECONDS: Final = 2.0

#: Rare, for each knock is a sign of life: longer than a ping and its pong take on most servers (20 + 20 s).
KNOCK_EVERY_SECONDS: Final = 60.0

#: After a knock, for the RST to arrive.
ECHO_SECONDS: Final = 1.0


class Vanishing(Attacker):
    """Vanishes a second after `vanish_soon`, and finds out when it was forgotten."""

    __slots__ = ()

    knock: ClassVar[bytes] = b"\r\n"  # servers should ignore it before a request (RFC 9112 section 2.2)
    alive_seconds: ClassVar[float] = ALIVE_SECONDS
    look_every_seconds: ClassVar[float] = LOOK_EVERY_SECONDS
    knock_every_seconds: ClassVar[float] = KNOCK_EVERY_SECONDS

    def vanish_soon(self) -> None:
        """Have the second begin."""
        self.wake_in(self.pace(self.alive_seconds))

    def on_time(self, moment: float) -> None:
        """Vanish, or find out."""
        forgotten = self.is_forgotten()
        if forgotten:
            self.fail("closed while it was dark")
        elif not self.is_dark:
            self.go_dark()
            self.wake_in(self.pace(self.knock_every_seconds if forgotten is None else self.look_every_seconds))
        elif forgotten is None:
            self.come_back()
            self.wake_in(ECHO_SECONDS)
            self.send(self.knock)
        else:
            self.wake_in(self.pace(self.look_every_seconds))
