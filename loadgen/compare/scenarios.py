"""The scenarios: for each claim about idle, slow and many connections, what is played and which figures are kept.

Owns: the loads, the columns and the arithmetic. Each scenario is one function that gets a freshly started server and
returns its figures by column. May not: start a server, or know how figures are shown.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import msgspec
import trio

from loadgen.clients.client import Client, Needs
from loadgen.compare.catalogue import Can, Peer
from loadgen.compare.measure import Meter
from loadgen.compare.process import HOST, DiedError, Running
from loadgen.compare.results import Column, Layout, Sample, Scenario, Sizes
from loadgen.net import target, wire
from loadgen.net.target import Endpoint
from loadgen.personas import summary
from loadgen.report.schema import Report
from loadgen.run.experiment import EACH_PER_S
from loadgen.run.preflight import InvalidRunError

_GIB: Final = 2**30
_MIB: Final = 2**20

#: A smaller growth of memory says nothing about the clients.
_LEAST_GROWTH: Final = _MIB / 2


# -- servers that only relay ------------------------------------------------------------------------------------------
# They do not speak chat.v1, but forward posted text to their clients. So the `joined` and `message` that clients expect
# are posted by us: `joined` before the first client connects, messages by the persona `request` when all are connected,
# because a later client would get a message instead of `joined`.

_JSON_FIELD: Final = "Content-Type: application/json"

JOINED: Final = msgspec.json.encode({"type": "joined", "id": -1, "room": "lobby"})

#: As large as the other servers' messages. It is posted again and again, so it has no number.
MESSAGE: Final = msgspec.json.encode(
    {
        "type": "message",
        "room": "compare",
        "offset": 0,
        "cursor": "peer-1",
        "time": "2026-11-20T12:00:00.123Z",
        "user": {"id": "g_000000000000000", "name": "Guest"},
        "text": "lg01234567 1234 the quick brown fox jumps over the lazy dog",
    }
)


async def greet(server: Running, path: str) -> None:
    """Post `joined`, which a client gets when it connects; call it again after any other message."""
    answer, request = b"", wire.request("POST", path, HOST, _JSON_FIELD, f"Content-Length: {len(JOINED)}")
    with trio.move_on_after(5.0), suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(HOST, urlsplit(server.url).port or 80) as stream:
            await stream.send_all(request + JOINED)
            answer = bytes(await stream.receive_some(4096))
    status = wire.final_status(answer)
    if status is None or status >= 400:
        raise DiedError(f"POST {path} was answered {status or 'nothing'}{server.last_output}")


def publishing(path: str) -> Endpoint:
    """The request of the persona `request`: publish a message to all clients."""
    return Endpoint(method="POST", asked=path, fields=(_JSON_FIELD,), body=MESSAGE)


# -- idle -------------------------------------------------------------------------------------------------------------


async def _idle(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
    report = _all_held(await meter.run({"idle": sizes.crowd}, seconds=sizes.idle_seconds, rooms=_rooms(sizes.crowd)))
    size = _bytes_each(report)
    fit = _GIB / size if size else None
    return {**report.figures, "bytes": size, "fit": fit}


async def _poll(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
    report = _all_held(await meter.run({"poll": sizes.crowd}, seconds=_BRIEF_SECONDS, rooms=_rooms(sizes.crowd)))
    return {**report.figures, "bytes": _bytes_each(report)}


#: For scenarios that do not use the steady window; long enough for a second entry of the timeline.
_BRIEF_SECONDS: Final = 1.0

_IDLE: Final = Scenario(
    name="idle",
    layouts=(
        Layout(
            "Idle WebSockets: what one costs",
            "Memory is the growth of Pss, without pages of files and the kernel's socket memory, while the second half"
            " of the crowd connected, left out if it is too small to tell from noise. Each connection is pinged and"
            " answers once in the window.",
            (
                Column("bytes", "memory each, B", compared=True),
                Column("fit", "fit in 1 GiB"),
                Column("server_cpu_us_per_connection_s", "CPU per connection-second, us", compared=True),
                Column("own_bytes_per_client", "loadgen's own memory each, B"),
            ),
        ),
        Layout(
            "New WebSockets: how fast they are taken",
            "From connect to joined; ours then announces the newcomer to the room's members, which no other does."
            " loadgen limits the rate too, but not the CPU.",
            (
                Column("connects_per_s", "a second", compared=True),
                Column("server_cpu_us_per_client", "server CPU each, us", compared=True),
            ),
        ),
    ),
    play=_idle,
    needs=Can.WEBSOCKET,
    seconds=15,
)

_POLL: Final = Scenario(
    name="poll",
    layouts=(
        Layout(
            "Held long-polls: what one costs",
            "Opening takes two requests: one for the room's cursor, and the poll that is held.",
            (
                Column("bytes", "memory each, B", compared=True),
                Column("connects_per_s", "opened a second", compared=True),
                Column("server_cpu_us_per_client", "server CPU to open, us", compared=True),
            ),
        ),
    ),
    play=_poll,
    needs=Can.POLL,
    seconds=6,
)


# -- busy -------------------------------------------------------------------------------------------------------------

#: Deliveries a second that a fan-out asks for: a rate that every server manages, and a rate that hardly any does.
_PACED_DELIVERIES: Final = 4_000
_FLOOD_DELIVERIES: Final = 100_000

#: One member in `_LISTENERS` speaks, at most `_SPEAKERS` of them.
_LISTENERS: Final = 4
_SPEAKERS: Final = 50


async def _fan_out(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
    paced = await _broadcast(meter, peer, sizes, _PACED_DELIVERIES, "paced")
    flood = await _broadcast(meter, peer, sizes, _FLOOD_DELIVERIES, "flood")
    return {
        "paced_us": _cpu_per_delivery(paced),
        "paced_p99_ms": paced.figures["echo_p99_ms"],
        "flood_per_s": flood.figures["deliveries_per_s"],
        "flood_us": _cpu_per_delivery(flood),
    }


async def _broadcast(meter: Meter, peer: Peer, sizes: Sizes, deliveries: int, label: str) -> Report:
    members, seconds = sizes.members, sizes.busy_seconds
    speakers = max(min(members // _LISTENERS, _SPEAKERS), 1)
    rate = min(deliveries / members, speakers * EACH_PER_S)
    counts, endpoint = {"idle": members - speakers, "chat": speakers}, None
    if peer.relay:
        await greet(meter.server, peer.relay)
        counts, endpoint = {"idle": members, "request": 1}, publishing(peer.relay)
    return _all_held(await meter.run(counts, label=label, rate=rate, seconds=seconds, endpoint=endpoint))


_FAN_OUT: Final = Scenario(
    name="fanout",
    layouts=(
        Layout(
            "Fan-out: one room",
            f"Paced asks for {_PACED_DELIVERIES:,} deliveries a second, flood for {_FLOOD_DELIVERIES:,}, or as many as"
            " the members of a small room can say. The server's CPU includes the publishes.",
            (
                Column("paced_us", "paced: CPU per delivery, us", compared=True),
                Column("paced_p99_ms", "paced: p99 to come back, ms"),
                Column("flood_per_s", "flood: deliveries/s", compared=True),
                Column("flood_us", "flood: CPU per delivery, us", compared=True),
            ),
        ),
    ),
    play=_fan_out,
    needs=Can.WEBSOCKET,
    seconds=14,
)

#: Message rate of each publisher of a throughput.
_MESSAGES_EACH_PER_S: Final = 3.0

#: Of the connections beside a throughput, one in this many is a slow head; the others are idle WebSockets.
_SLOW_PART: Final = 3


async def _beside(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
    slow = sizes.beside // _SLOW_PART
    alone = await _throughput(meter, sizes, "alone")
    async with meter.beside({"idle": sizes.beside - slow, "slow-head": slow}) as held:
        crowded = await _throughput(meter, sizes, "beside")
    return {
        "held": held,
        "alone_per_s": alone.figures["deliveries_per_s"],
        "crowded_per_s": crowded.figures["deliveries_per_s"],
        "kept": _percent(crowded.figures["deliveries_per_s"], alone.figures["deliveries_per_s"]),
        "alone_us": _cpu_per_delivery(alone),
        "crowded_us": _cpu_per_delivery(crowded),
        "alone_p99_ms": alone.figures["ack_p99_ms"],
        "crowded_p99_ms": crowded.figures["ack_p99_ms"],
    }


async def _throughput(meter: Meter, sizes: Sizes, label: str) -> Report:
    # one member to a room: each message is delivered once, to its author
    members, rate = sizes.publishers, sizes.publishers * _MESSAGES_EACH_PER_S
    played = meter.run({"chat": members}, label=label, rate=rate, seconds=sizes.busy_seconds, rooms=members)
    return _all_held(await played)


_BESIDE: Final = Scenario(
    name="beside",
    layouts=(
        Layout(
            "Throughput beside slow and idle connections",
            f"{Sizes.publishers * _MESSAGES_EACH_PER_S:,.0f} messages a second are asked for. Beside them are idle"
            f" WebSockets and, one in {_SLOW_PART}, slow heads; the CPU includes their cost.",
            (
                Column("held", "connections beside"),
                Column("alone_per_s", "messages/s alone"),
                Column("crowded_per_s", "beside them", compared=True),
                Column("kept", "kept, %"),
                Column("alone_us", "CPU per message alone, us"),
                Column("crowded_us", "beside them, us", compared=True),
                Column("alone_p99_ms", "p99 alone, ms"),
                Column("crowded_p99_ms", "beside them, ms"),
            ),
        ),
    ),
    play=_beside,
    needs=Can.CHAT,
    seconds=17,
)


# -- servers that run already -----------------------------------------------------------------------------------------

_TOLD: Final = (
    Column("messages_per_s", "answers/s", compared=True),
    Column("ack_p50_ms", "p50, ms", compared=True),
    Column("ack_p99_ms", "p99, ms", compared=True),
    Column("ack_max_ms", "at worst, ms"),
    Column("message_errors", "errors"),
    Column("unacknowledged", "unanswered"),
    Column("unreturned", "not returned"),
    Column("missed", "missed"),
    Column("surplus", "surplus"),
    Column("connect_p99_ms", "connect p99, ms"),
    Column("handshake_p99_ms", "established p99, ms", compared=True),
    Column("received_bytes_per_s", "received, B/s"),
)


def load(counts: Mapping[str, int], *, rate: float, seconds: float) -> Scenario:
    async def play(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
        return _all_held(await meter.run(counts, rate=rate, seconds=seconds)).figures

    note = f"{sum(counts.values()):,} clients, {rate:,g} messages or requests a second for {seconds:g} s."
    layout = Layout(title="The same load", columns=_TOLD, note=note)
    return Scenario(name="load", layouts=(layout,), play=play, needs=Can(0), seconds=seconds + 4)


# -- attacked ---------------------------------------------------------------------------------------------------------

#: What a server must be able to do for an attack to be possible. Half a request can be sent to any server.
_NEEDED: Final = {Needs.HTTP: Can(0), Needs.WEBSOCKET: Can.WEBSOCKET, Needs.CHAT: Can.CHAT}


async def _attack(meter: Meter, peer: Peer, sizes: Sizes, kind: type[Client]) -> Sample:
    report = await meter.attack(
        {kind.name: min(sizes.attackers, kind.usual_clients)},
        victims={"ws" if Can.CHAT in peer.can else "get": sizes.victims},
        seconds=sizes.attack_seconds,
    )
    size = _above_noise(report.figures["server_bytes_per_attacker"], report.figures["attackers_peak"])
    grown = report.figures["server_bytes_grown"]
    return {**report.figures, "bytes": size, "grown": grown and grown / _MIB}


_ATTACK_COLUMNS: Final = (
    Column("success_percent", "victims' success, %"),
    Column("baseline_p99_ms", "their p99 before, ms"),
    Column("attack_p99_ms", "during, ms", compared=True),
    Column("newcomers_success_percent", "newcomers served, %"),
    Column("bytes", "memory per attacker as it comes, B", compared=True),
    Column("grown", "server grown in all by, MiB", compared=True),
    Column("attackers_peak", "attackers at most"),
    Column("attackers_held", "at the end"),
    Column("attackers_killed", "disconnected meanwhile"),
    Column("kill_p50_s", "after, s"),
)


def _survival(kind: type[Client]) -> Scenario:
    return Scenario(
        name=f"attack-{kind.name}",
        layouts=(Layout(title=f"Attack: {kind.name}", columns=_ATTACK_COLUMNS, note=summary(kind)),),
        play=partial(_attack, kind=kind),
        needs=_NEEDED[kind.needs],
        seconds=18,
    )


def scenarios(attacks: Iterable[type[Client]]) -> list[Scenario]:
    return [_IDLE, _POLL, _FAN_OUT, _BESIDE, *map(_survival, attacks)]


# -- arithmetic -------------------------------------------------------------------------------------------------------


def _rooms(clients: int) -> int:
    return max(clients // target.PER_ADDRESS, 1)


def _all_held(report: Report) -> Report:
    """Return the report if all clients were accepted and stayed, because fewer would cost less."""
    wanted = sum(row.wanted for row in report.cohorts)
    held = report.figures["held"]
    lost = sum(sum(row.ended.values()) for row in report.cohorts)
    if held is None or held < wanted or lost:
        why = {reason for row in report.cohorts for each in (row.refused, row.failed, row.ended) for reason in each}
        raise InvalidRunError(f"{held or 0:,.0f} of {wanted:,} held, {lost:,} ended ({', '.join(sorted(why))})")
    return report


def _bytes_each(report: Report) -> float | None:
    """The server's growth for each client of the second half of a crowd, when free space in the heap is used up."""
    figures = report.figures
    return _above_noise(figures["server_bytes_per_further_connection"], (figures["held"] or 0) / 2)


def _above_noise(each: float | None, clients: float | None) -> float | None:
    """Return the cost of each, if their total is large enough to distinguish from other changes in a heap."""
    return each if each is not None and each * (clients or 0) >= _LEAST_GROWTH else None


def _cpu_per_delivery(report: Report) -> float | None:
    figures = report.figures
    each, held, rate = (figures[name] for name in ("server_cpu_us_per_connection_s", "held", "deliveries_per_s"))
    return each * held / rate if each is not None and held is not None and rate else None


def _percent(part: float | None, whole: float | None) -> float | None:
    return 100 * part / whole if part is not None and whole else None
