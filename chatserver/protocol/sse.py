r"""Server-sent events: the stream's head, and its fields.

Owns: the text format of the WHATWG HTML standard, section 9.2. An event's data is JSON and normally one line; a line
break would end the field early, so data with line breaks is sent as several `data:` lines.

    head(date_line(second)) + retry_field(3000) + event("k3f9-41", b'{"text":"hi"}')
"""

# No Content-Length: the stream ends when the connection does, so it cannot be kept alive. X-Accel-Buffering tells nginx
# not to buffer events, no-transform tells others not to compress them (Express keeps them for ever while it does).
_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Cache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\n"
    b"Connection: close\r\n"
)
#: A comment: it keeps proxies from timing out, and the page does not see it. No blank line follows, nor after `retry`:
#: clients that are not browsers (httpx-sse, fetch-event-source) report an event without data at each.
HEARTBEAT = b":\n"


def head(lines: bytes) -> bytes:
    """The stream's head, with more header lines."""
    return b"%b%b\r\n" % (_HEAD, lines)


def retry_field(milliseconds: int) -> bytes:
    """How long the browser should wait before it reconnects."""
    return b"retry: %d\n" % milliseconds


def event(cursor: str, data: bytes, name: str = "message") -> bytes:
    """One event. Its id is the cursor, which a reconnecting browser sends back as Last-Event-ID."""
    return id_field(cursor) + notice(name, data)


def notice(name: str, data: bytes) -> bytes:
    """An event that is not in the log: it has no id, so a browser keeps the last one."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    return b"event: %b\ndata: %b\n\n" % (_field(name), data)


def id_field(cursor: str) -> bytes:
    """The stream's position, from which a browser that reconnects continues. It counts from the next blank line on."""
    return b"id: %b\n" % _field(cursor)


def _field(value: str) -> bytes:
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError(f"{value!r} cannot be a field of an event")
    return value.encode("utf-8")
