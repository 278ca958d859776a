"""The engine with clients that are no personas, against sockets that the test holds itself."""

import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
import trio

from loadgen.clients.client import Client, Stage
from loadgen.net.sockets import borrowed
from loadgen.net.timers import NEVER, now
from tests.loadgen.stage import Probe, established, listening, meeting, playing, read_until, reset, until


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Probe.first, Probe.received = b"hello", b""


async def test_a_large_opening_follows_as_the_peer_reads() -> None:
    Probe.first = os.urandom(8_000_000)
    async with meeting(Probe) as (play, stream):
        assert play.client.stage is Stage.CONNECTING, "it is not held before all is sent"
        assert await read_until(stream, lambda got: len(got) >= len(Probe.first)) == Probe.first
        await until(lambda: play.cohort.held == 1)
        assert play.cohort.sent_bytes == len(Probe.first)


@pytest.mark.parametrize(
    ("reply", "reason"), [(b"", "closed"), (b"garbage", "garbage"), (None, "connection reset by peer")]
)
async def test_every_end_has_a_reason(reply: bytes | None, reason: str) -> None:
    async with established() as (_, stream, play):
        if reply is None:
            reset(stream)
        else:
            await stream.receive_some()
            await stream.send_all(reply)
            await stream.aclose()
        await until(lambda: not play.cohort.held)
        assert play.cohort.ended == {reason: 1}
        assert play.cohort.lifetime.count == 1
        assert play.cohort.received_bytes == len(reply or b"")


async def test_a_silent_server_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Patient(Probe):
        __slots__ = ()

        def on_connected(self) -> None:
            """Wait for an answer."""

    monkeypatch.setattr("loadgen.clients.opening.OPEN_DEADLINE_SECONDS", 0.1)
    async with listening() as server, playing(server.url, Patient) as play:
        await until(lambda: play.engine.has_opened)
        assert play.cohort.failed == {"no answer in time: not established in 0.1 s": 1}
        assert play.cohort.held == 0


async def test_a_persona_says_how_narrow_its_connection_is() -> None:
    class Narrow(Probe):
        __slots__ = ()

        receive_buffer_bytes, send_buffer_bytes, segment_bytes = 2048, 8192, 1000

    async with meeting(Narrow) as (play, _):
        with borrowed(play.client.fd) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 2048, "Linux doubles it"
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 8192
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 1000


async def test_our_own_lack_of_descriptors_is_no_fault_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("loadgen.net.sockets.connect", none_left)
    async with listening() as server, playing(server.url, Probe) as play:
        await until(lambda: play.engine.has_opened)
        assert play.engine.own_faults == {"too many open files": 1}
        assert not play.cohort.refused


@pytest.mark.parametrize("call", ["read", "write"])
async def test_our_own_lack_of_memory_is_no_fault_of_the_target(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A read or write that failed here counted as an end by the server, which fell short for it."""
    monkeypatch.setattr(os, call, Mock(side_effect=OSError(errno.ENOBUFS, "No buffer space available")))
    async with meeting(Probe) as (play, stream):
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"answer")
        await until(lambda: play.engine.own_faults)
        assert play.engine.own_faults.keys() == {"no buffer space available"}


async def test_alarms_are_kept_when_nothing_else_happens() -> None:
    async with listening() as server, playing(server.url, Probe, clients=0) as play:
        [late] = play.engine.lag.phases.values()
        await until(lambda: late.looks.count)
        with trio.fail_after(10):
            for _ in range(5):
                rang = trio.Event()
                play.engine.at(now() - 1, rang.set)
                await rang.wait()
        assert late.schedule.count == 5


@pytest.mark.parametrize("slow", [False, True])
async def test_what_lay_unread_is_how_late_we_were_unless_it_reads_slowly_on_purpose(slow: bool) -> None:
    """There may be no alarm to tell, and alarms go off between two batches of sockets."""

    class Reader(Probe):
        pass

    Reader.slow = slow
    async with established(Reader) as (_, stream, play):
        os.write(stream.socket.fileno(), b"answer")
        time.sleep(0.3)  # noqa: ASYNC251  the whole process stands still
        await until(lambda: Reader.received)
        [late] = play.engine.lag.phases.values()
        assert not late.schedule.count
        assert (late.reading.longest or 0) >= 0.2 if not slow else not late.reading.count
        assert (late.looks.longest or 0) >= 0.25, "a closed loop has no schedule, and its clients may read nothing"


async def test_a_turn_serves_every_timer_that_is_overdue_and_notes_how_late_that_is() -> None:
    """A turn served one stretch of 5 ms and took longer: in 10 s the timers were seconds late, and no check said so."""
    typed: list[float] = []

    class Typist(Probe):
        __slots__ = ()

        def on_time(self, moment: float) -> None:
            typed.append(moment)

    async with listening() as server, playing(server.url, Typist, clients=10) as play:
        await until(lambda: play.cohort.held == 10)
        engine, moment = play.engine, now()
        for number, client in enumerate(play.clients, start=1):
            engine.wheel.set(client, moment - number)
        engine.lag.next_look = moment
        engine._turn()
        assert len(typed) == 10
        [late] = engine.lag.phases.values()
        assert (late.looks.longest or 0) >= 9.9


async def test_cancelling_closes_every_descriptor() -> None:
    def descriptors() -> set[str]:
        return {entry.name for entry in Path("/proc/self/fd").iterdir()}

    async with listening() as server:
        before = descriptors()
        async with playing(server.url, Probe, clients=10) as play:
            await until(lambda: play.cohort.held == 10)
            assert play.engine.has_opened
        assert descriptors() <= before | {max(descriptors(), key=int)}  # listing the folder is a descriptor too
        assert play.cohort.held == 0
        assert not play.cohort.ended, "closing them ourselves is not their end"


async def test_the_rate_of_connections_is_kept() -> None:
    async with listening(backlog=4096) as server:
        begun = trio.current_time()
        async with playing(server.url, Probe, clients=50, connect_rate=100.0) as play:
            await until(lambda: play.cohort.held == 50)
            assert trio.current_time() - begun >= 0.45


# -- what a persona may do --------------------------------------------------------------------------------------------


async def test_send_says_whether_the_kernel_took_all_and_tells_when_it_has() -> None:
    drained: list[int] = []

    class Flooder(Probe):
        __slots__ = ()

        def on_drained(self) -> None:
            drained.append(self.cohort.sent_bytes)

    async with established(Flooder) as (_, stream, play):
        sent = len(Probe.first)
        while play.client.send(b"x" * 65536):
            sent += 65536
        assert not play.client.send(b"y" * 65536)
        assert drained == []
        await read_until(stream, lambda got: len(got) >= sent + 2 * 65536)
        await until(lambda: drained)
        assert drained == [sent + 2 * 65536]
        assert play.engine._budget.charged_bytes == 0, "nothing is kept for it any more"
        assert play.client.send(b"more")


async def test_a_client_that_stopped_reading_closes_its_window_and_then_reads_what_it_missed() -> None:
    class Narrow(Probe):
        __slots__ = ()
        receive_buffer_bytes = 2048
        segment_bytes = 1460
        read_bytes = 7

    async with established(Narrow) as (_, stream, play):
        play.client.stop_reading()
        sent = 0
        with pytest.raises(BlockingIOError):  # noqa: PT012  the block that does not fit is what is looked for
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            os.set_blocking(stream.socket.fileno(), False)
            for _ in range(1000):
                sent += os.write(stream.socket.fileno(), b"y" * 1000)
        assert sent < 100_000
        assert play.cohort.received_bytes == 0
        play.client.resume_reading()
        await until(lambda: play.cohort.received_bytes == sent)
        assert Narrow.received == b"y" * sent


async def test_a_reset_is_noticed_without_reading_and_a_fin_is_not() -> None:
    async with established() as (_, stream, play):
        play.client.stop_reading()
        await stream.send_all(b"unread")
        await stream.send_eof()
        has_turned = trio.Event()
        play.engine.at(now(), has_turned.set)
        await has_turned.wait()
        assert play.cohort.held == 1, "it stays behind what is unread"
        reset(stream)
        await until(lambda: not play.cohort.held)
        assert play.cohort.ended == {"broken pipe": 1}, "what Linux calls a reset behind a FIN"
        assert Probe.received == b""


@pytest.mark.parametrize("is_behind", [False, True])
async def test_half_a_connection_is_still_read(is_behind: bool) -> None:
    """What the kernel had not taken was dropped before the FIN: the server got half of what a persona had sent."""
    async with established() as (_, stream, play):
        expected = 5
        while is_behind and play.client.send(b"x" * 65536):
            expected += 65536
        play.client.finish_sending()
        got = await read_until(stream, lambda got: len(got) >= expected + 65536 * is_behind)
        assert got == b"hello".ljust(expected + 65536 * is_behind, b"x")
        assert await stream.receive_some() == b""
        await stream.send_all(b"late")
        await until(lambda: Probe.received == b"late")
        assert play.cohort.held == 1


async def test_clients_that_come_back_are_not_held_back_by_those_that_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 clients of a server that closes after each answer waited 0.8 s for each other, and the server was blamed."""
    monkeypatch.setattr("loadgen.clients.opening.OPENING_MAX", 2)

    class Waiting(Probe):
        """Is established once the server speaks."""

        __slots__ = ()

        def on_connected(self) -> None:
            """Wait."""

        def on_data(self, data: bytes) -> None:
            self.hold()

    async with listening() as server, playing(server.url, Waiting, clients=8) as play:
        for _ in range(4):
            for _ in range(2):
                stream = await server.accept()
                await stream.send_all(b"welcome")
        await until(lambda: play.cohort.held == 8)
        for client in play.clients[:6]:
            play.engine.reopen(client)
        for _ in range(6):
            await server.accept()
        assert play.cohort.connects.count == 14


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_client_that_waits_to_be_connected_again_is_connected_once(
    is_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer of its former connection queued it a second time, and one of two connections was never closed.

    Its persona may set that timer after the end too: a typist whose write is broken plans the next piece.
    """
    async with established() as (server, _, play):
        monkeypatch.setattr("loadgen.clients.opening.OPEN_BATCH", 0)
        if not is_over:
            play.client.wake_in(0.01)
        play.engine.reopen(play.client)
        if is_over:
            play.client.wake_in(0.01)
        await trio.sleep(0.1)
        monkeypatch.setattr("loadgen.clients.opening.OPEN_BATCH", 16)
        play.engine.at(now(), lambda: None)
        await server.accept()
        with trio.move_on_after(0.1):
            raise AssertionError(await server.accept())


@pytest.mark.parametrize(
    "act",
    [Client.hold, Client.stop_reading, Client.resume_reading, Client.finish_sending, Client.go_dark, Client.come_back],
)
async def test_what_a_client_does_after_its_end_is_no_fault(act: Callable[[Client], None]) -> None:
    """The server may end it between two calls of its persona; the error ended the crowd's process."""
    async with established() as (server, stream, play):
        reset(stream)
        act(play.client)
        await until(lambda: play.cohort.ended == {"connection reset by peer": 1})
        act(play.client)
        play.engine.reopen(play.client)
        await (await server.accept()).send_all(b"welcome")
        await until(lambda: Probe.received == b"welcome")


async def test_a_request_after_its_end_is_not_sent() -> None:
    async with established() as (_, stream, play):
        play.client.is_reused = 1
        play.client.leave()
        play.client.send_request(b"more")
        await read_until(stream, lambda got: got == b"hello")
        assert await stream.receive_some() == b""


@pytest.mark.parametrize(("how", "is_dark"), [(Client.leave, False), (Client.abort, False), (Client.leave, True)])
async def test_a_client_that_leaves_is_not_ended_and_returns(
    how: Callable[[Client, float], None], is_dark: bool
) -> None:
    """One that is dark does not linger."""
    async with established() as (server, stream, play):
        first = play.engine.last_came
        if is_dark:
            play.client.go_dark()
        await read_until(stream, lambda got: len(got) == 5)
        play.engine.at(now(), lambda: how(play.client, 0.01))
        if how is Client.abort:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        else:
            assert await stream.receive_some() == b""
        await server.accept()
        await until(lambda: play.cohort.opened == 2)
        assert play.engine.last_came == first > 0, "the crowd had opened by then"
        for _ in range(2):
            play.client.leave()
        assert play.client.stage is Stage.OVER
        assert (play.cohort.left, play.cohort.held) == (2, 0)
        assert not play.cohort.ended


async def test_a_crowd_that_is_closed_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three attackers one is connected, one would be back in a moment, and one waits to be connected."""

    class Returning(Probe):
        __slots__ = ()
        honest = False

    async with listening() as server, playing(server.url, Returning, clients=3) as play:
        await until(lambda: play.cohort.held == 3)
        stays, leaves, queued = play.clients
        leaves.leave(0.05)
        monkeypatch.setattr("loadgen.clients.opening.OPEN_BATCH", 0)
        play.engine.reopen(queued)
        await play.engine.close_cohorts([play.cohort])
        play.engine.reopen(stays)
        assert (stays.stage, play.cohort.held, play.cohort.left) == (Stage.OVER, 0, 1)
        monkeypatch.setattr("loadgen.clients.opening.OPEN_BATCH", 16)
        await until(lambda: leaves.due == NEVER)
        assert play.engine.has_opened
        assert play.cohort.opened == 3
        assert not play.cohort.ended


async def test_what_the_server_ends_while_all_are_closed_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chart said that a server ended 130 attackers, and the table below that it ended none."""
    async with listening() as server, playing(server.url, Probe, clients=2) as play:
        await until(lambda: play.cohort.held == 2)
        close = play.engine.close

        def close_and_end_another(client: Client) -> None:
            close(client)
            play.clients[1].fail("closed")

        monkeypatch.setattr(play.engine, "close", close_and_end_another)
        await play.engine.close_cohorts([play.cohort])
        assert (play.cohort.held, play.cohort.ended) == (0, {})


@pytest.mark.parametrize("is_behind", [False, True])
async def test_what_was_said_before_a_broken_write_is_heard(is_behind: bool) -> None:
    """The answer 408 stood unread in the kernel when a byte-wise sender met EPIPE, and the end was booked as that.

    So it would be of a sender for whom bytes wait, if those were written before the answer is read.
    """
    async with established() as (_, stream, play):
        while is_behind and play.client.send(b"x" * 65536):
            pass
        if not is_behind:
            play.client.stop_reading()
        os.write(stream.socket.fileno(), b"408")
        reset(stream)
        while play.client.send(b"x"):
            pass
        await until(lambda: play.cohort.ended)
        assert Probe.received == b"408"
        assert sum(play.cohort.ended.values()) == 1
