"""Long messages, many frames, many messages (families 9 and 10).

Owns: the declarations. A server need not accept these messages, but it must echo those that it accepts. The bytes are
made when a case is played.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from loadgen.conform.case import Case, Script, cut, echo, fragments, frame
from loadgen.wire import BINARY, FIN, TEXT

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

_SIZES: Final = (64 * _KIB, 256 * _KIB, _MIB, 4 * _MIB, 8 * _MIB, 16 * _MIB)
_FRAGMENTED: Final = 4 * _MIB
_FRAGMENTS: Final = (64, 256, _KIB, 4 * _KIB, 16 * _KIB, 64 * _KIB, 256 * _KIB, _MIB, 4 * _MIB)
_CHOPPED: Final = _MIB
_CHOPS: Final = (64, 128, 256, 512, _KIB, 2 * _KIB)
_MESSAGES: Final = 1000
_MESSAGE_SIZES: Final = (0, 16, 64, 256, _KIB, 4 * _KIB)

#: Autobahn's case 10.1.1: 65,536 bytes in fragments of 1,300.
_AUTO: Final = (64 * _KIB, 1300)


def limits() -> Iterator[Case]:
    """Families 9 and 10."""
    for odd, (opcode, name) in enumerate(((TEXT, "text"), (BINARY, "binary"))):
        for number, size in enumerate(_SIZES, 1):
            yield _case(f"9.{1 + odd}.{number}", f"{name} of {_worded(size)}", opcode, size)
        for number, part in enumerate(_FRAGMENTS, 1):
            title = f"{name} of {_worded(_FRAGMENTED)} in fragments of {_worded(part)}"
            yield _case(f"9.{3 + odd}.{number}", title, opcode, _FRAGMENTED, part=part)
        for number, piece in enumerate(_CHOPS, 1):
            title = f"{name} of {_worded(_CHOPPED)} in pieces of {_worded(piece)}"
            yield _case(f"9.{5 + odd}.{number}", title, opcode, _CHOPPED, piece=piece)
        for number, size in enumerate(_MESSAGE_SIZES, 1):
            title = f"{_MESSAGES:,} messages of {_worded(size)}, {name}"
            yield _case(f"9.{7 + odd}.{number}", title, opcode, size, times=_MESSAGES)
    size, part = _AUTO
    yield _case("10.1.1", f"text of {_worded(size)} in fragments of {part:,} B", TEXT, size, part=part)


def _case(id_: str, title: str, opcode: int, size: int, *, part: int = 0, piece: int = 0, times: int = 1) -> Case:
    script = partial(_script, opcode, size, part, piece, times)
    return Case(id=id_, title=title, section="5.4", script=script, heavy=size * times >= _MIB)


def _script(opcode: int, size: int, part: int, piece: int, times: int) -> Script:
    payload = b"*" * size
    sent = b"".join(fragments(opcode, *cut(payload, part)) if part else [frame(FIN | opcode, payload)])
    sends = cut(sent, piece) if piece else [sent] * times
    return Script(sends=sends, hears=[echo(payload, opcode)] * times)


def _worded(size: int) -> str:
    return f"{size // _MIB} MiB" if size >= _MIB else f"{size // _KIB} KiB" if size >= _KIB else f"{size} B"
