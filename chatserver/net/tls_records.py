"""The framing of TLS: where a record ends, and whether a whole ClientHello is here.

Owns: the form of records, and the bounds on a hello. May not: decrypt, or keep anything.

OpenSSL is fed whole records only, as h11 is fed whole heads: given half a record it allocates a buffer for the largest
one, 17 KB. Its first input is a whole ClientHello: four bytes that announce the largest size, 128 KiB, would make it
allocate and clear that much memory.
"""

#: Bytes before each record: its type, its version, its length (RFC 8446 section 5.1).
HEADER = 5
#: Length of a record at most, RFC 5246 section 6.2.3: 2^14, and 2 KiB that a cipher may add (RFC 8446: 256 bytes).
MAX_RECORD = (1 << 14) + 2048
#: Bytes of a ClientHello at most. Browsers send 0.5 to 2 KB, keys for post-quantum exchanges included; OpenSSL takes
#: 131,396, Go 65,536. OpenSSL compares every key share with every group: 17 ms for one of 16 KiB, 4 for 8 KiB.
MAX_HELLO = 8 * 1024
#: Records that a hello may be spread over. Clients send one; some tunnels split it in two or three.
MAX_HELLO_RECORDS = 8

#: A whole answer for a peer that is refused: a fatal alert, "internal error". No alert says "come back later".
REFUSAL = bytes((21, 3, 3, 0, 2, 2, 80))

_HANDSHAKE = 22
_MAJOR_VERSION = 3
_CLIENT_HELLO = 1
_MESSAGE_HEADER = 4  # bytes: its type, and its length in three


class RecordError(Exception):
    """These bytes do not begin with a ClientHello, or exceed a bound; the message says which."""


def whole_records(data: bytes) -> tuple[int, int]:
    """How many whole records these bytes begin with, and where the last of them ends.

    Of a record that is too long, the header counts as one: OpenSSL refuses it, with an alert.
    """
    count, end, size = 0, 0, len(data)
    while size - end >= HEADER:
        length = data[end + 3] << 8 | data[end + 4]
        after = end + HEADER + (length if length <= MAX_RECORD else 0)
        if after > size:
            break
        count, end = count + 1, after
    return count, end


def hello_is_whole(data: bytes) -> bool:
    """Whether these bytes begin with a whole ClientHello; RecordError as soon as they cannot become one."""
    message = b""
    at = 0
    for _ in range(MAX_HELLO_RECORDS):
        header = data[at : at + HEADER]
        _check_header(header)
        if len(header) < HEADER:
            return False
        length = header[3] << 8 | header[4]
        message += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if message and message[0] != _CLIENT_HELLO:
            raise RecordError("a handshake that does not begin with a ClientHello")
        size = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER], "big")  # at least, as long as bytes lack
        if size > MAX_HELLO:
            raise RecordError(f"a ClientHello of {size:,} bytes, limit {MAX_HELLO:,}")
        if len(data) < at:
            return False
        if len(message) >= size:
            return True
    raise RecordError(f"a ClientHello in more than {MAX_HELLO_RECORDS} records")


def _check_header(header: bytes) -> None:
    if header and header[0] != _HANDSHAKE:
        raise RecordError(f"no TLS handshake begins with byte 0x{header[0]:02x}")
    if len(header) > 1 and header[1] != _MAJOR_VERSION:
        raise RecordError(f"TLS of major version {header[1]}; 3 is known")
    if len(header) == HEADER and not 0 < header[3] << 8 | header[4] <= MAX_HELLO:
        raise RecordError("an empty or oversized record in a handshake")
