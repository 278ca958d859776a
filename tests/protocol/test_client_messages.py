import json
import sys

import msgspec

from chatserver.protocol.bodies import decode_publish, decode_read
from chatserver.protocol.client_messages import (
    MAX_JSON_BYTES,
    Delete,
    Edit,
    History,
    Join,
    Leave,
    Members,
    Ping,
    Publish,
    React,
    Read,
    Typing,
    decode,
    parse_json,
)
from chatserver.protocol.errors import MessageError
from chatserver.reasons import ErrorCode
from tests.support.errors import error_of

BAD_FIELD, BAD_JSON = ErrorCode.BAD_FIELD, ErrorCode.BAD_JSON
#: CPython 3.14 bounds nesting by the size of the stack, so there an unknown field is refused for its length instead.
TOO_DEEP = (BAD_JSON, "deep") if sys.version_info < (3, 14) else (BAD_FIELD, "8,192 bytes")
NO_JSON = ("", "hello", '{"type":"ping"', '{"type":"ping"}x', "{'type':'ping'}")
NO_TEXTS = ('""', "5", '"\\u0000"')
NO_LIMITS = ("0", "201", "1e400", '"5"', "true")
NO_OFFSETS = ("-1", "1.5", "true", '"1"', "9007199254740992", "1" + "0" * 400)
HALF_PAIRS = ("\\ud83d", "\ud83d", "\\ud83d and more", "\\ude00", "\\ude00\\ud83d", "\\ud83d\\ude00\\ude00")
NO_IDS = ("true", "[1]", '{"a":1}', "1e999", "9007199254740992", "1" + "0" * 400, "1" + "0" * 5000, f'"{"x" * 65}"')


def test_valid_messages_are_decoded() -> None:
    for data, message in (
        ('{"type":"join","id":1,"room":"lobby"}', Join("lobby", id=1)),
        ('{"type":"join","id":1,"room":"lobby","after":"k3f9-41"}', Join("lobby", "k3f9-41", 1)),
        ('{"type":"join","room":"lobby","after":41}', Join("lobby", 41)),
        ('{"type":"join","room":"lobby","after":null}', Join("lobby")),
        ('{"room":"lobby","id":"a","type":"leave"}', Leave("lobby", "a")),
        ('{"type":"publish","id":3,"room":"lobby","text":"hi"}', Publish("lobby", "hi", None, 3)),
        ('{"type":"publish","id":3,"room":"lobby","text":"hi","key":"k"}', Publish("lobby", "hi", "k", 3)),
        ('{"type":"publish","room":"lobby","text":"a\\r\\nb"}', Publish("lobby", "a\nb")),
        ('{"type":"publish","room":"lobby","text":"\\ud83d\\ude00"}', Publish("lobby", "😀")),
        ('{"type":"publish","room":"room","text":"text"}', Publish("room", "text")),
        ('{"type":"publish","room":"a","text":"{\\"text\\":\\"text\\"}"}', Publish("a", '{"text":"text"}')),
        ('{"type":"history","id":4,"room":"lobby"}', History("lobby", id=4)),
        ('{"type":"history","room":"lobby","before":"k3f9-9","limit":200}', History("lobby", "k3f9-9", limit=200)),
        ('{"type":"history","room":"lobby","after":9,"limit":1}', History("lobby", after=9, limit=1)),
        (
            '{"type":"publish","room":"a","text":"b","reply_to":1,"mentions":["u","u"]}',
            Publish("a", "b", reply_to=1, mentions=("u",)),
        ),
        ('{"type":"edit","id":7,"room":"a","offset":1,"text":"b","key":"k"}', Edit("a", 1, "b", "k", 7)),
        ('{"type":"edit","room":"a","offset":1,"text":"b\\r\\nc"}', Edit("a", 1, "b\nc")),
        ('{"type":"delete","id":8,"room":"a","offset":1,"key":"k"}', Delete("a", 1, "k", 8)),
        ('{"type":"react","room":"a","offset":1,"emoji":"\U0001f44d","on":true}', React("a", 1, "\U0001f44d", True)),
        ('{"type":"members","id":5,"room":"lobby"}', Members("lobby", 5)),
        ('{"type":"read","room":"lobby","offset":41}', Read("lobby", 41)),
        ('{"type":"read","id":"r","room":"lobby","offset":0}', Read("lobby", 0, "r")),
        ('{"type":"typing","room":"lobby"}', Typing("lobby")),
        ('{"type":"ping","id":6}', Ping(6)),
        ('{"type":"ping","id":1.5}', Ping(1.5)),
        ('{"type":"ping","id":null}', Ping()),
        ('{"type":"ping"}', Ping()),
        (' {"type":"ping","new":{"in":[1]}} ', Ping()),
        (json.dumps({"type": "ping", "id": "x" * 64}), Ping("x" * 64)),
        (json.dumps({"type": "ping", "id": -(2**53) + 1}), Ping(-(2**53) + 1)),
    ):
        assert decode(data) == message
        assert decode(data.encode()) == message


def test_a_refusal_names_the_field_and_has_the_id() -> None:
    for data, code, names, id_ in (
        *((data, BAD_JSON, "", None) for data in NO_JSON),
        ("", BAD_JSON, "JSON is empty or ends too early", None),
        *((f'{{"type":"publish","id":1,"room":"a","text":"{half}"}}', BAD_JSON, "half a", 1) for half in HALF_PAIRS),
        ('{"type":"ping","id":"a\\ud83d"}', BAD_JSON, "half a", None),
        (b'{"type":"ping","id":"\xff"}', BAD_JSON, "", None),
        ("[" * 25_000, BAD_JSON, "", None),
        ('{"type":"ping","x":' + "[" * 12_500 + "]" * 12_500 + "}", *TOO_DEEP, None),
        ('{"type":"ping","id":1,"x":"' + "x" * MAX_JSON_BYTES + '"}', ErrorCode.TOO_LARGE, "limit 26,624", None),
        *((data, BAD_JSON, "object", None) for data in ("[]", '"ping"', "1", "null")),
        ("{}", BAD_FIELD, "type", None),
        ('{"id":1}', BAD_FIELD, "type", 1),
        ('{"type":1,"id":1}', BAD_FIELD, "type", 1),
        ('{"type":["ping"],"id":1}', BAD_FIELD, "type", 1),
        ('{"type":"PING","id":1}', ErrorCode.UNKNOWN_TYPE, "PING", 1),
        ('{"type":"dance","id":"t","room":"a"}', ErrorCode.UNKNOWN_TYPE, "dance", "t"),
        ('{"type":"join","id":1}', BAD_FIELD, "room: missing", 1),
        ('{"type":"join","id":1,"room":5}', BAD_FIELD, "room", 1),
        ('{"type":"join","id":1,"room":null}', BAD_FIELD, "room", 1),
        ('{"type":"join","id":1,"room":"No"}', ErrorCode.BAD_ROOM, "room", 1),
        ('{"type":"join","id":1,"room":"a","after":"x"}', ErrorCode.BAD_CURSOR, "x", 1),
        ('{"type":"join","id":1,"room":"a","after":-1}', ErrorCode.BAD_CURSOR, "cursor", 1),
        ('{"type":"join","id":1,"room":"a","after":1.5}', BAD_FIELD, 'a whole number (41, not "41" or 41.0) or', 1),
        ('{"type":"join","id":1,"room":"a","after":1' + "0" * 400 + "}", ErrorCode.BAD_CURSOR, "cursor", 1),
        ('{"type":"join","id":1,"room":"a","after":1' + "0" * 5000 + "}", BAD_FIELD, "after", 1),
        ('{"type":"publish","id":1,"room":"a"}', BAD_FIELD, "text", 1),
        *((f'{{"type":"publish","id":1,"room":"a","text":{text}}}', BAD_FIELD, "text", 1) for text in NO_TEXTS),
        ('{"type":"publish","id":1,"room":"a","text":"b","key":""}', BAD_FIELD, "key", 1),
        ('{"type":"publish","id":1,"room":"a","text":"b","key":7}', BAD_FIELD, "key", 1),
        *((f'{{"type":"history","id":1,"room":"a","limit":{limit}}}', BAD_FIELD, "limit", 1) for limit in NO_LIMITS),
        ('{"type":"history","id":1,"room":"a","before":"x"}', ErrorCode.BAD_CURSOR, "x", 1),
        ('{"type":"history","id":1,"room":"a","after":"x"}', ErrorCode.BAD_CURSOR, "x", 1),
        ('{"type":"publish","id":1,"room":"A","text":"b"}', ErrorCode.BAD_ROOM, "room", 1),
        ('{"type":"history","id":1,"room":"a","before":1,"after":2}', BAD_FIELD, "before, after", 1),
        *((f'{{"type":"read","id":1,"room":"a","offset":{at}}}', BAD_FIELD, "offset", 1) for at in NO_OFFSETS),
        ('{"type":"read","id":1,"room":"a","offset":1.0}', BAD_FIELD, "(41, not", 1),
        ('{"type":"delete","id":1,"room":"a","offset":0}', BAD_FIELD, "(41, not", 1),  # as 1.0 in a path
        ('{"type":"read","id":1,"room":"a"}', BAD_FIELD, "offset", 1),
        ('{"type":"read","id":1,"room":"A","offset":1}', ErrorCode.BAD_ROOM, "room", 1),
        ('{"type":"read","id":1,"room":"a","offset":1,"offset":2}', BAD_FIELD, "offset: sent twice", 1),
        ('{"type":"publish","id":1,"room":"a","text":"b","reply_to":0}', BAD_FIELD, "reply_to", 1),
        ('{"type":"publish","id":1,"room":"a","text":"b","mentions":[""]}', BAD_FIELD, "mentions", 1),
        ('{"type":"publish","id":1,"room":"a","text":"b","mentions":"u"}', BAD_FIELD, "mentions: a list is", 1),
        ('{"type":"publish","id":1,"room":"a","text":"b","mentions":[1]}', BAD_FIELD, "mentions[0]: a string", 1),
        ('{"type":"edit","id":1,"room":"a","offset":0,"text":"b"}', BAD_FIELD, "offset", 1),
        ('{"type":"edit","id":1,"room":"a","offset":1,"text":""}', BAD_FIELD, "text", 1),
        ('{"type":"delete","id":1,"room":"a","offset":1,"key":""}', BAD_FIELD, "key", 1),
        ('{"type":"react","id":1,"room":"a","offset":1,"emoji":"b","on":true}', BAD_FIELD, "emoji", 1),
        ('{"type":"typing","id":1}', BAD_FIELD, "room", 1),
        *((f'{{"type":"ping","id":{id_}}}', BAD_FIELD, "id", None) for id_ in NO_IDS),
        ('{"type":"ping","id":1,"id":2}', BAD_FIELD, "id: sent twice", 2),
        ('{"type":"ping","type":"ping","id":1}', BAD_FIELD, "type: sent twice", 1),
        ('{"type":"%s","type":"ping","id":1}' % ("x" * 8_000), BAD_FIELD, "type: invalid value 'xx", 1),
        ('{"type":"join","id":1,"room":"a","room":"b"}', BAD_FIELD, "room: sent twice", 1),
        ('{"type":"history","id":1,"room":"a","room":"b"}', BAD_FIELD, "room: sent twice", 1),
        ('{"type":"publish","id":1,"room":"a","text":"b","te\\u0078t":"c"}', BAD_FIELD, "text: sent twice", 1),
    ):
        error = error_of(MessageError, decode, data)
        assert (error.code, error.id) == (code, id_), (data, error.message)
        assert names in error.message, data
        assert code is not BAD_FIELD or "`" not in error.message, "in the words of the decoder"
        assert len(error.message) <= 220, data
        msgspec.json.encode(error.message)


def test_a_type_that_no_field_has_yet_is_named_in_a_refusal() -> None:
    class Placed(msgspec.Struct):
        place: dict[str, int]

    error = error_of(MessageError, parse_json, '{"place":1}', msgspec.json.Decoder(Placed))
    assert (error.code, error.message) == (BAD_FIELD, "place: object is required")


def test_valid_bodies_are_decoded() -> None:
    for body, content_type, expected in (
        (b'{"text":"hi"}', "application/json", Publish("lobby", "hi")),
        (b'{"text":"hi","key":"k"}', "Application/JSON; charset=utf-8", Publish("lobby", "hi", "k")),
        (b"hello", "application/x-www-form-urlencoded", Publish("lobby", "hello")),
        (b"a=b&c", "application/x-www-form-urlencoded", Publish("lobby", "a=b&c")),
        (b"hello", "text/plain", Publish("lobby", "hello")),
        ("grüß".encode(), 'text/plain; charset="UTF-8"', Publish("lobby", "grüß")),
        ("grüß".encode(), "text/plain;charset=utf8", Publish("lobby", "grüß")),  # as browsers know it too
        (b'{"text":"hi"}', "text/plain", Publish("lobby", '{"text":"hi"}')),
        (b"hello", None, Publish("lobby", "hello")),
        ("grüß".encode(), "application/octet-stream", Publish("lobby", "grüß")),
        (b"\r\n" * 4000 + b"x", "text/plain", Publish("lobby", "\n" * 4000 + "x")),
        (b'{"text":"' + b"\\u00fc" * 4096 + b'"}', "application/json", Publish("lobby", "ü" * 4096)),
    ):
        assert decode_publish("lobby", body, content_type) == expected


def test_bad_publish_bodies_are_refused() -> None:
    for body, content_type, status, code in (
        (b"<p>", "text/html", 415, "unsupported_media_type"),
        (b"x", "multipart/form-data; boundary=x", 415, "unsupported_media_type"),
        (b"x", "text/plain; charset=latin-1", 415, "unsupported_media_type"),
        (b"x", "nonsense", 415, "unsupported_media_type"),
        (b"\xff", "text/plain", 400, "bad_field"),
        (b"", "text/plain", 400, "bad_field"),
        (b"", "application/json", 400, "bad_json"),
        (b"\xff", "application/json", 400, "bad_json"),
        (b"[]", "application/json", 400, "bad_json"),
        (b"{}", "application/json", 400, "bad_field"),
        (b'{"text":1}', "application/json", 400, "bad_field"),
        (b'{"text":"a","text":"b"}', "application/json", 400, "bad_field"),
        (b'{"text":"a","key":""}', "application/json", 400, "bad_field"),
        (b"\x89PNG\xff", "application/octet-stream", 400, "bad_field"),
        (b"\r\n" * 8193, "text/plain", 400, "bad_field"),
        (b"x" * 65_536, "text/plain", 400, "bad_field"),
        (b"x" * 65_536, "application/json", 413, "too_large"),
        (b"[" * MAX_JSON_BYTES, "application/json", 400, "bad_json"),
        (b'{"text":"a","x":' + b"[" * 12_500 + b"]" * 12_500 + b"}", "application/json", 400, TOO_DEEP[0].code),
    ):
        refused = error_of(MessageError, decode_publish, "lobby", body, content_type).code
        assert (refused.status, refused.code) == (status, code), (body, content_type)


def test_a_body_with_a_read_marker() -> None:
    assert decode_read(b'{"offset":41}', "application/json; charset=utf-8") == 41
    assert decode_read(b'{"offset":0}', "application/json") == 0, "nothing is read"
    for body, media, code in (
        (b'{"offset":41}', "text/plain", ErrorCode.UNSUPPORTED_MEDIA_TYPE),
        (b'{"offset":41}', None, ErrorCode.UNSUPPORTED_MEDIA_TYPE),
        (b"41", "application/json", BAD_JSON),
        (b"{}", "application/json", BAD_FIELD),
        (b'{"offset":-1}', "application/json", BAD_FIELD),
        (b'{"offset":1,"offset":2}', "application/json", BAD_FIELD),
        (b'{"offset":', "application/json", BAD_JSON),
    ):
        assert error_of(MessageError, decode_read, body, media).code is code, (body, media)
