"""Fields that are sent twice: refused, because which of the two counts differs between JSON parsers.

Owns: finding them in JSON that was decoded before, in time that what else is in it cannot stretch. May not: know what a
field means. Only an object's own fields are looked at; what is inside their values is nobody's business here.

msgspec does not tell, and the standard library does at two calls of Python an object: 2 ms for 16 KiB of `{"":1}`. But
every field takes a colon. An object with as many colons as it has different fields has none twice, and colons inside
the values of known fields can be taken off. Few messages need more than that: those with fields not known here.
"""

from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out

import msgspec

from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode

#: What an object may have besides the values of known fields, if it has fields that are not known: bytes, and colons
#: (so fields). A newer client says little that is not known here; the longest message of ours has eight fields.
MAX_OTHER_BYTES = 8 * 1024
MAX_OTHER_COLONS = 128

_NOTHING = msgspec.Raw()


class _Known(msgspec.Struct, gc=False):
    """What the messages of chat.v1 have, as it came; of a field that is there twice, the last."""

    type: msgspec.Raw = _NOTHING
    id: msgspec.Raw = _NOTHING
    room: msgspec.Raw = _NOTHING
    text: msgspec.Raw = _NOTHING
    key: msgspec.Raw = _NOTHING
    after: msgspec.Raw = _NOTHING
    before: msgspec.Raw = _NOTHING
    limit: msgspec.Raw = _NOTHING


_known = msgspec.json.Decoder(_Known)
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])


def refuse_duplicates(data: str | bytes, different: int = 0) -> None:
    """Raise MessageError if a field of this object, which is valid JSON, is there twice.

    `different` is how many different fields it has at least, as far as is known.
    """
    colons = data.count(":") if isinstance(data, str) else data.count(b":")
    if colons == different:
        return
    encoded = data.encode("utf-8") if isinstance(data, str) else data
    values = [value for value in msgspec.structs.astuple(_known.decode(encoded)) if value]
    known = b"".join(values)
    colons -= known.count(b":")
    if colons == len(values):
        return
    if colons > MAX_OTHER_COLONS or len(encoded) - len(known) > MAX_OTHER_BYTES:
        message = f"over {MAX_OTHER_COLONS} fields, or {MAX_OTHER_BYTES:,} bytes of fields that are not known here"
        raise MessageError(ErrorCode.BAD_FIELD, message)
    _compare_sizes(encoded)


def _compare_sizes(data: bytes) -> None:
    """What fields take, each counted once, is what the object takes without its white space; or one is there twice."""
    compact = msgspec.json.format(data, indent=-1)
    fields = _objects.decode(compact)  # of two, the last
    size = sum(map(len, map(str.encode, fields))) + sum(map(len, fields.values()))
    braces, quotes_colon_comma = 2, 4
    if fields and size + quotes_colon_comma * len(fields) - 1 + braces != len(compact):
        _refuse_second(compact.decode("utf-8"), fields)


def _refuse_second(compact: str, fields: dict[str, msgspec.Raw]) -> None:
    """Look at one after the other: something is twice, or a name has an escape and so takes more than it says."""
    values = {name: bytes(raw).decode("utf-8") for name, raw in fields.items()}
    at = 1
    for _ in range(len(values)):
        name, end = scanstring(compact, at + 1)
        value = values.pop(name, None)
        at = end + 1 + len(value or "")
        if value is None or compact[end + 1 : at] != value or compact[at] not in ",}":
            raise _twice(name)
        at += 1
    if at < len(compact):
        raise _twice(scanstring(compact, at + 1)[0])


def _twice(name: str) -> MessageError:
    return MessageError(ErrorCode.BAD_FIELD, f"{name[:40]}: sent twice")
