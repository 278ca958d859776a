"""A listening socket with the options of the server's, so that a ratio does not compare socket options."""

import socket


def listen(*, blocking: bool) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 16 * 1024)
    listening.bind(("127.0.0.1", 0))
    listening.listen(4096)
    listening.setblocking(blocking)
    host, port = listening.getsockname()
    print(f"listening on http://{host}:{port}", flush=True)
    return listening
