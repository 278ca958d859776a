"""The floor of a broadcast: accept, then a loop of `sock.send` over everybody.

`pace ROUNDS RATE FRAME` sends a frame (in hex) to all, so many times, so many times a second. The sockets have the
options that the server gives to its own.
"""

import gc
import socket
import sys
import time

from tests.bench.peers.sockets import listen


def main() -> None:
    gc.disable()
    listening = listen(blocking=False)
    members: list[socket.socket] = []
    for line in sys.stdin:
        _, rounds, rate, frame = line.split()
        accept_all(listening, members)
        pace(members, int(rounds), float(rate), bytes.fromhex(frame))
        print("done", flush=True)


def accept_all(listening: socket.socket, members: list[socket.socket]) -> None:
    while True:
        try:
            accepted, _ = listening.accept()
        except BlockingIOError:
            return
        accepted.setblocking(False)
        members.append(accepted)


def pace(members: list[socket.socket], rounds: int, rate: float, frame: bytes) -> None:
    start = time.perf_counter()
    for index in range(rounds):
        time.sleep(max(0.0, start + index / rate - time.perf_counter()))
        for member in members:
            member.send(frame)


main()
