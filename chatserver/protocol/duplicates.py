"""Duplicate fields: refused, because JSON parsers differ in which of the two counts.

Owns: finding them in JSON that was decoded before, in bounded time. May not: know what a field means. Only an object's
own fields are checked, not those inside its values.

msgspec does not report them; the standard library can, but takes 2 ms for 16 KiB of `{"":1}`. Every field has a colon,
so an object with as many colons as different fields has no duplicates; colons inside the values of known fields are
subtracted first. Only messages with unknown fields need more than counting, and those fields are limited.
"""

import json
from typing import Any

import msgspec

from chatserver.protocol.errors import MessageError, bad_field
from chatserver.reasons import ErrorCode

#: For an object with unknown fields: the bytes besides the values of known fields, and the colons (so fields). A newer
#: client sends few unknown fields; our longest message has eight fields in all.
MAX_OTHER_BYTES = 8 * 1024
MAX_OTHER_COLONS = 128

#: The fields of chat.v1 messages and of bodies, undecoded; of a duplicate field, the last.
_KNOWN = (
    "type id room text key after before limit offset emoji on reply_to mentions as_user name token"
    " kind user network network_of seconds reason"
).split()
known_fields: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("Known", [(name, msgspec.Raw, msgspec.Raw()) for name in _KNOWN], gc=False)
)


def refuse_duplicates(data: str | bytes, different: int = 0) -> None:
    """Raise MessageError if this object, which is valid JSON, has a duplicate field.

    `different` is the number of different fields that it is known to have.
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
    # Numbers stay text, because Python refuses to convert more than 4,300 digits.
    fields: list[tuple[str, object]] = json.loads(encoded, object_pairs_hook=list, parse_int=str)
    for name, _ in fields:
        if name in seen:
            raise bad_field(name[:40], "sent twice")
        seen.add(name)
