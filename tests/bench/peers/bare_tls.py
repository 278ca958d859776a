"""The floor of a join under TLS: OpenSSL on a blocking socket, and answers that are there before they are asked for.

`bare_tls CERT KEY` takes one after the other: a handshake, two requests that it does not look at, an answer as long as
the server's to each. Everybody stays connected until standard input ends. The rules of TLS are the server's.
"""

import gc
import select
import socket
import ssl
import sys

from chatserver.net.tls import load_context
from tests.bench.peers.sockets import listen

_ANSWERS = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" + b'"hello"'.ljust(400, b" "),
    b'"joined"'.ljust(200, b" "),
)


def main() -> None:
    gc.disable()
    context = load_context(*sys.argv[1:3])
    listening = listen(blocking=True)
    kept = []
    while listening in select.select([listening, sys.stdin], [], [])[0]:
        kept.append(welcome(listening.accept()[0], context))


def welcome(accepted: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    peer = context.wrap_socket(accepted, server_side=True)
    for answer in _ANSWERS:
        peer.recv(4096)
        peer.send(answer)
    return peer


main()
