import h11
from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.protocol import sse
from tests.support.errors import error_of


def test_the_head_as_h11_reads_it() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sse.head(b"Vary: Origin\r\n") + sse.retry_field(3000))
    head, data = client.next_event(), client.next_event()
    assert isinstance(head, h11.Response)
    assert isinstance(data, h11.Data)
    fields = dict(head.headers)
    assert fields[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert fields[b"connection"] == b"close"
    assert fields[b"vary"] == b"Origin"
    assert b"no-transform" in fields[b"cache-control"], "else the compression of Express keeps events for ever"
    assert b"content-length" not in fields
    assert bytes(data.data) == b"retry: 3000\n"


def parsed(stream: bytes) -> list[dict[str, str]]:
    """The standard's algorithm (WHATWG HTML, 9.2.6), shortened: as in many clients, each blank line makes an event."""
    events = []
    for block in stream.decode().split("\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if not name:
                continue  # a comment
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
        events.append(fields)
    return events


def test_events_and_that_nothing_else_looks_like_one_to_any_client() -> None:
    stream = sse.retry_field(2000) + sse.HEARTBEAT + sse.event("k3f9-41", '{"text":"grüß"}'.encode())
    stream += sse.HEARTBEAT + sse.HEARTBEAT + sse.event("k3f9-42", b"", "gap") + sse.HEARTBEAT
    assert parsed(stream) == [
        {"retry": "2000", "id": "k3f9-41", "event": "message", "data": '{"text":"grüß"}'},
        {"id": "k3f9-42", "event": "gap", "data": ""},
    ]


@given(st.text(alphabet="ab:\r\n ", max_size=12))
@example("a\rid: x")
def test_line_breaks_cannot_end_an_event(data: str) -> None:
    seen = "\n".join(data.splitlines())
    assert parsed(sse.event("1-1", data.encode())) == [{"id": "1-1", "event": "message", "data": seen}]


def test_a_line_break_in_a_field_raises() -> None:
    for text in ("a\nb", "a\rb", "a\0b"):
        for cursor, kind in ((text, "message"), ("1-1", text)):
            assert "cannot be a field" in str(error_of(ValueError, sse.event, cursor, b"x", kind))
