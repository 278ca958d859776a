"""A bare h11 request and response cycle, in memory: what parsing and answering cost before any work is done.

`cycles COUNT REQUEST BODY` (hex) answers `done`. One connection for all cycles, as with keep-alive.
"""

import sys

import h11

print("listening on http://nowhere:0", flush=True)


def main() -> None:
    for line in sys.stdin:
        _, count, request, body = line.split()
        cycles(int(count), bytes.fromhex(request), bytes.fromhex(body))
        print("done", flush=True)


def cycles(count: int, request: bytes, body: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", str(len(body)).encode()),
    ]
    for _ in range(count):
        connection.receive_data(request)
        while type(connection.next_event()) is not h11.EndOfMessage:
            pass
        connection.send(h11.Response(status_code=201, headers=headers))
        connection.send(h11.Data(data=body))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()


main()
