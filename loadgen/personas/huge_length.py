"""Numbers that do not fit."""

from typing import Final

from loadgen import wire
from loadgen.client import Attacker, Cohort, Threat
from loadgen.personas import persona

_LENGTHS: Final = (
    ("Content-Length: 9223372036854775807", b"hello"),  # 2**63 - 1: the largest a signed 64 bit number may be
    ("Content-Length: 9223372036854775808", b"hello"),  # the first that is negative
    ("Content-Length: 18446744073709551621", b"hello"),  # 5, in a parser that keeps the lower 64 bits
    ("Content-Length: " + "9" * 500, b"hello"),
    ("Transfer-Encoding: chunked", b"7fffffffffffffff\r\nhello"),
    ("Transfer-Encoding: chunked", b"ffffffffffffffff\r\nhello"),  # -1
    ("Transfer-Encoding: chunked", b"10000000000000005\r\nhello"),  # 5 again
    ("Transfer-Encoding: chunked", b"f" * 500 + b"\r\nhello"),
)


@persona
class HugeLength(Attacker):
    """Announces a body, or a chunk, of 2^63 bytes and more, sends five of them and waits.

    Sums of such lengths overflow (CVE-2013-2028, chunks in nginx), no buffer of that size can be had, and a number that
    is cut to 64 bits is a smuggled request. 400 or 413 should come at once. The WebSocket's share is in big-frame.
    """

    __slots__ = ("_announced",)

    name = "huge-length"
    threat = Threat.GREEDY

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._announced = _LENGTHS[cohort.made % len(_LENGTHS)]

    def opening(self) -> bytes:
        """Send a head, and the beginning of a body."""
        place = self.cohort.place
        field, body = self._announced
        target = place.post_path.format(room=self.room)
        return wire.request("POST", target, place.host, "Content-Type: text/plain", field) + body
