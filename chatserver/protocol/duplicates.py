"""Fields that are sent twice: refused, because which of the two counts differs between JSON parsers.

Owns: finding them in JSON that was decoded before, in time that what else is in it cannot stretch. May not: know what a
field means. Fields of what the server ignores anyway are ignored with it: only an object's own are looked at.

msgspec does not tell, and the standard library does at two calls of Python an object: 2 ms for 16 KiB of `{"":1}`,
which anybody may send twenty times a second. Here the answer mostly is one subtraction: what an object's fields take
together, each counted once, is what it takes without its white space, or one was there twice.
"""

from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out

import msgspec

from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode

#: Fields looked at one by one, where a name is spelled with an escape. The longest message of ours has eight.
MAX_ESCAPED = 64

# Quoted, a name can only stand in JSON as a whole string (inside a longer string its quotes are escaped), so two of
# one name is where a duplicate may be; an escape may spell a name otherwise. Both are rare: 0.5 µs is the usual cost.
_NAMES = tuple(f'"{name}"' for name in ("type", "id", "room", "text", "key", "after", "before", "limit"))
_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])


def refuse_duplicates(data: str | bytes) -> None:
    """Raise MessageError if a field of this object, which is valid JSON, is there twice."""
    text = data if isinstance(data, str) else data.decode("utf-8")
    if "\\u" not in text and max(map(text.count, _NAMES)) <= 1:
        return
    compact = msgspec.json.format(text.encode("utf-8"), indent=-1)
    fields = _objects.decode(compact)  # of two, the last
    size = sum(map(len, map(str.encode, fields))) + sum(map(len, map(bytes, fields.values())))
    braces, quotes_colon_comma = 2, 4
    if fields and size + quotes_colon_comma * len(fields) - 1 + braces != len(compact):
        _refuse_second(compact.decode("utf-8"), fields)


def _refuse_second(compact: str, fields: dict[str, msgspec.Raw]) -> None:
    """Look at one after the other: something is twice, or a name has an escape and so takes more than it says."""
    if len(fields) > MAX_ESCAPED:
        raise MessageError(ErrorCode.BAD_FIELD, f"over {MAX_ESCAPED} fields, one of them twice or spelled with escapes")
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
