"""How much all unfinished request bodies and messages together keep, so that memory has a bound over connections too.

Owns: the count, and who is refused while it is over its bound. May not: know connections. `Intake` and the WebSocket's
edge say what came; whoever takes an `Upload` or a `Session` off its connection gives it back here.

A bound for each is none for 20,000 of them: 64 KiB of body each, with its head, would be 1.6 GB. What is whole is not
counted: it is answered in the same call, and what a handler keeps of it (a draft) the log counts.
"""

import random
from typing import Protocol

from chatserver.edge.exchange import Upload
from chatserver.protocol.errors import HttpError
from chatserver.reasons import ErrorCode, Reason

#: Bytes of head and body that anybody may have unfinished, whatever all others keep: a browser's head and a message of
#: usual length. So a flood of fat bodies does not hit those who chat. 20,000 of these are 40 MB, on top of the bound.
SMALL = 2048
#: Seconds after which to come back: about as long as an unfinished body lives, and spread.
RETRIES = range(5, 15)


class Keeper(Protocol):
    """Whatever has something unfinished."""

    counted: int  # bytes of it


class Uploads:
    """Bytes kept, and how many may be."""

    __slots__ = ("_most", "used")

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def grown(self, upload: Upload) -> None:
        """More of it came, and is counted. Raises HttpError if that is too much, with what all others keep."""
        if not self.fits(upload, len(upload.head) + upload.body.kept):
            raise HttpError(
                ErrorCode.UNAVAILABLE,
                "too many request bodies are unfinished; nothing of this one was stored, send it again",
                reason=Reason.BODIES_FULL,
                headers=(("Retry-After", str(random.choice(RETRIES))),),  # noqa: S311  jitter, not secrecy
            )

    def fits(self, keeper: Keeper, kept: int) -> bool:
        """Count what somebody keeps by now; False if that is too much, with what all others keep."""
        self.used += kept - keeper.counted
        keeper.counted = kept
        return self.used <= self._most or kept <= SMALL

    def gone(self, keeper: Keeper) -> None:
        """It is whole, refused or given up; harmless the second time."""
        self.used -= keeper.counted
        keeper.counted = 0
