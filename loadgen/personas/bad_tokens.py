"""Tokens that do not hold, each another one: forging one costs a microsecond, and refusing it must not cost more."""

import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from loadgen import wire
from loadgen.client import ATTACKER_RETURNS_SECONDS, Cohort
from loadgen.personas import persona
from loadgen.personas._requests import post_head, upgrading
from loadgen.personas._shapes import Asker

#: Seconds that a forged token claims to be valid for: a server that looks at that first must go on to the signature.
LIFETIME: Final = 3600
#: Characters of claims that nobody asked for, in one token of eight: below the 4 KB that servers take as a token.
LONG_CLAIM: Final = 2_500


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


_HS256: Final = _encoded(b'{"alg":"HS256","typ":"JWT"}')
_NONE: Final = _encoded(b'{"alg":"none"}')


def bad_token(number: int) -> str:
    """Return another token for each number. Of eight, six are forged with HS256, one is unsigned, one is noise."""
    kind = number % 8
    signature = sha256(b"%d" % number).digest()
    if kind == 0:
        return f"bad.token.{_encoded(signature)}"
    more = b',"more":"%b"' % (b"x" * LONG_CLAIM) if kind == 1 else b""
    claims = _encoded(b'{"sub":"u_%d","exp":%d%b}' % (number, time.time() + LIFETIME, more))
    return f"{_NONE}.{claims}." if kind == 2 else f"{_HS256}.{claims}.{_encoded(signature)}"


#: A room of its own, for servers that take what comes with such a token.
ROOM: Final = "bad-tokens"
TEXT: Final = b"said by nobody"


@persona
class BadTokens(Asker):
    """Posts, or asks for a WebSocket, with another bad token each time, and again as soon as it is refused.

    To verify a signature takes 40 to 100 microseconds, and no cache helps, since none of these was seen before: 10,000
    a second are a core, unless size and rate are asked before the signature. What is taken is booked as it is answered.
    """

    __slots__ = ("_asked",)

    name = "bad-tokens"
    usual_clients = 500

    def __init__(self, cohort: Cohort, index: int) -> None:
        super().__init__(cohort, index)
        self._asked = 0

    def request(self) -> bytes:
        """Return the next request; half of the clients ask for a WebSocket."""
        token = bad_token((self.index << 32) + self._asked)
        self._asked += 1
        field = f"Authorization: Bearer {token}"
        if self.number % 2:
            return upgrading(field)(self)
        return post_head(self.cohort.place, ROOM, f"Content-Length: {len(TEXT)}", field) + TEXT

    def on_data(self, data: bytes) -> None:
        """Leave a WebSocket at once, should there be one."""
        if not self.unread and wire.final_status(data) == 101:
            self.cohort.answers["answered 101"] += 1
            self.leave(return_in=ATTACKER_RETURNS_SECONDS)
        else:
            super().on_data(data)

    def pause(self, status: int) -> float:
        """Ask again at once, whatever the answer says about waiting."""
        return 0.0
