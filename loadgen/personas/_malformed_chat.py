"""Well-formed frames that are not chat.v1: the catalogue behind `malformed-chat`.

Owns: the texts. A server should answer each with an error and keep the connection.
"""

import json
from collections.abc import Mapping
from typing import Final

#: Deep enough for a recursive parser's stack (CPython's json gives up at about 1,000), short enough for any limit.
_DEPTH: Final = 5000

_OBJECTS: Final[Mapping[str, object]] = {
    "an array": [],
    "a string": "join",
    "a number": 42,
    "null": None,
    "no type": {"room": "lobby"},
    "unknown type": {"type": "dance", "id": 1},
    "type that is a number": {"type": 1},
    "type that is a list": {"type": ["join"]},
    "no room": {"type": "join", "id": 1},
    "room that is a number": {"type": "join", "id": 1, "room": 7},
    "room that is null": {"type": "join", "id": 1, "room": None},
    "id that is an object": {"type": "ping", "id": {}},
    "id of 10,000 characters": {"type": "ping", "id": "x" * 10_000},
    "text that is a list": {"type": "publish", "id": 1, "room": "lobby", "text": ["hi"]},
    "unknown field": {"type": "ping", "id": 1, "admin": True},
    "empty room": {"type": "join", "id": 1, "room": ""},
    "room of 10,000 letters": {"type": "join", "id": 1, "room": "a" * 10_000},
    "room with a NUL": {"type": "join", "id": 1, "room": "a\0b"},
    "room with control characters": {"type": "join", "id": 1, "room": "a\x07\x1b[31mb"},
    # shown as "exe.txt", a harmless file name
    "room with a bidi override": {"type": "join", "id": 1, "room": "\u202etxt.exe"},
    # with 10,000 it would be refused for its 20 KB
    "room of combining marks": {"type": "join", "id": 1, "room": "a" + "\u0301" * 7000},
    "room that is a path": {"type": "join", "id": 1, "room": "../../etc/passwd"},
    "room with a line feed": {"type": "join", "id": 1, "room": "a\nb"},
    "text of control characters": {"type": "publish", "id": 1, "room": "malformed", "text": "\0\x07\x1b[2J"},
    "empty text": {"type": "publish", "id": 1, "room": "malformed", "text": ""},
    "key that is a number": {"type": "publish", "id": 1, "room": "malformed", "text": "hi", "key": 7},
    "key of 10,000 characters": {"type": "publish", "id": 1, "room": "malformed", "text": "hi", "key": "k" * 10_000},
    "cursor of letters": {"type": "join", "id": 1, "room": "malformed", "after": "yesterday"},
    "negative cursor": {"type": "join", "id": 1, "room": "malformed", "after": -1},
    "huge cursor": {"type": "join", "id": 1, "room": "malformed", "after": "e-" + "9" * 400},
    "limit below zero": {"type": "history", "id": 1, "room": "malformed", "limit": -5},
    "limit beyond reason": {"type": "history", "id": 1, "room": "malformed", "limit": 1 << 62},
    "before and after": {"type": "history", "id": 1, "room": "malformed", "before": 5, "after": 1},
    "leave of a room never joined": {"type": "leave", "id": 1, "room": "elsewhere"},
}

CASES: Final[Mapping[str, bytes]] = {
    **{name: json.dumps(value, ensure_ascii=False).encode() for name, value in _OBJECTS.items()},
    "nothing": b"",
    "not JSON": b"hello",
    "half an object": b'{"type":"join"',
    "two objects": b'{"type":"ping","id":1}{"type":"ping","id":2}',
    "deep arrays": b"[" * _DEPTH + b"]" * _DEPTH,
    "deep objects in a field": b'{"type":"ping","id":' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
    # Python turns digits into an int in quadratic time, and refuses above 4,300 of them (CVE-2020-10735)
    "number of 9,000 digits": b'{"type":"ping","id":' + b"9" * 9000 + b"}",
    "number too large for a float": b'{"type":"ping","id":1e999999}',
    "NaN": b'{"type":"ping","id":NaN}',
    "number with a leading zero": b'{"type":"ping","id":007}',
    "the same field twice": b'{"type":"ping","id":1,"type":"leave"}',
    "two rooms": b'{"type":"join","id":1,"room":"malformed","room":"lobby"}',
    "half a surrogate pair": b'{"type":"publish","id":1,"room":"malformed","text":"\\ud800"}',
    "byte order mark": b'\xef\xbb\xbf{"type":"ping","id":1}',
    "single quotes": b"{'type':'ping'}",
    "comment": b'{"type":"ping"/*x*/,"id":1}',
}
