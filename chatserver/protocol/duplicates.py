"""Fields that are sent twice: refused, because which of the two counts differs between JSON parsers.

Owns: finding them in JSON that was decoded before, in time that what else is in it cannot stretch. May not: know what a
field means. Only an object's own fields are looked at; what is inside their values is nobody's business here.

msgspec does not tell; the standard library does, but takes 2 ms for 16 KiB of `{"":1}`. But every field takes a colon.
An object with as many colons as it has different fields has none twice, and colons inside the values of known fields
can be taken off. Few messages need more than that: those with fields not known here, of which there may be little.
"""

import json

import msgspec

from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode

#: What an object may have besides the values of known fields, if it has fields that are not known: bytes, and colons
#: (so fields). A newer client says little that is not known here; the longest message of ours has eight fields.
MAX_OTHER_BYTES = 8 * 1024
MAX_OTHER_COLONS = 128

_NOTHING = msgspec.Raw()


class Known(msgspec.Struct, gc=False):
    """What the messages of chat.v1 have, as it came; of a field that is there twice, the last."""

    type: msgspec.Raw = _NOTHING
    id: msgspec.Raw = _NOTHING
    room: msgspec.Raw = _NOTHING
    text: msgspec.Raw = _NOTHING
    key: msgspec.Raw = _NOTHING
    after: msgspec.Raw = _NOTHING
    before: msgspec.Raw = _NOTHING
    limit: msgspec.Raw = _NOTHING
    offset: msgspec.Raw = _NOTHING
    emoji: msgspec.Raw = _NOTHING
    on: msgspec.Raw = _NOTHING
    reply_to: msgspec.Raw = _NOTHING
    mentions: msgspec.Raw = _NOTHING
    name: msgspec.Raw = _NOTHING
    token: msgspec.Raw = _NOTHING


known_fields = msgspec.json.Decoder(Known)


def refuse_duplicates(data: str | bytes, different: int = 0) -> None:
    """Raise MessageError if a field of this object, which is valid JSON, is there twice.

    `different` is how many different fields it has at least, as far as is known.
    """
    colons = data.count(":") if isinstance(data, str) else data.count(b":")
    if colons == different:
        return
    encoded = data.encode("utf-8") if isinstance(data, str) else data
    values = [value for value in msgspec.structs.astuple(known_fields.decode(encoded)) if value]
    known = b"".join(values)
    colons -= known.count(b":")
    if colons == len(values):
        return
    if colons > MAX_OTHER_COLONS or len(encoded) - len(known) > MAX_OTHER_BYTES:
        message = f"over {MAX_OTHER_COLONS} fields, or {MAX_OTHER_BYTES:,} bytes of fields that are not known here"
        raise MessageError(ErrorCode.BAD_FIELD, message)
    seen: set[str] = set()
    # Numbers stay text, since Python makes none of more than 4,300 digits.
    fields: list[tuple[str, object]] = json.loads(encoded, object_pairs_hook=list, parse_int=str)
    for name, _ in fields:
        if name in seen:
            raise MessageError(ErrorCode.BAD_FIELD, f"{name[:40]}: sent twice")
        seen.add(name)
