"""What a figure is, and every figure of a run and of an attack, in the order of reports.

Owns: each figure's unit, meaning, limit (`bar`), better direction, spread and column, which are all that `--fail-if`,
`diff` and every output know of it. A new one is a row here, and the code that computes it in run/measured.py. (Those of
other commands are beside the code that computes them, and wording.py has all of them by name.)
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from loadgen.report import bar


class When(Enum):
    """What an experiment must have for a figure to be judged."""

    ALWAYS = "always"
    SPEAKERS = "clients speak on a schedule"
    ECHOES = "what is said comes back"
    GATHERED = "what is said comes back, and no client comes after the first message"
    COMPARED = "the baseline has none of the load"
    NEWCOMERS = "newcomers came"
    NEIGHBOURS = "honest slow clients are beside it"
    KEPT = "messages were read again"
    MEMBERS = "the server told who is in a room"
    MALFORMED = "malformed requests were sent"
    WATCHED = "the server's process is known, and attackers came"


class Bar(NamedTuple):
    """The condition under which a figure fails the target."""

    sign: str = ">"
    limit: float = 0
    when: When = When.ALWAYS
    far: bool = False  # add the round trip to the target to the limit


class Column(NamedTuple):
    """A column of a table. In tables with a row for each attack, figures with the same column share a cell."""

    name: str
    spare: int = 0  # if not 0, a narrow terminal may drop the column; the highest goes first
    alarming: bool = False  # a value above 0 is bad
    readable: int = 20  # least width of text that wraps


#: Columns with this `spare` or more appear in report.md only, because documents have room for them.
MARKDOWN_ONLY: Final = 9


class Better(Enum):
    """Which of two values of a figure is the better one."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"  # it describes the baseline, the floor, the load or the generator, or one worst operation


_MORE: Final = Better.MORE
_NEITHER: Final = Better.NEITHER


class Tolerance(NamedTuple):
    """How far a figure of a single run may move by chance: by a factor or by an amount, whichever is more."""

    factor: float = 1.0
    amount: float = 0.0

    def above(self, value: float) -> float:
        return max(value * self.factor, value + self.amount)


TIMES: Final = "\N{MULTIPLICATION SIGN}"

#: By unit; counts and sizes have none. Four equal runs on a noisy machine differed by at most 96 us in server CPU of an
#: attacker, and 1 s in recovery.
_TOLERANCE: Final = {
    "%": Tolerance(bar.RATIO, 25.0),
    "ms": Tolerance(bar.RATIO, bar.MARGIN_MS),
    "s": Tolerance(bar.RATIO, 1.0),
    "µs": Tolerance(bar.RATIO, 100.0),
    "/s": Tolerance(bar.RATIO, 1.0),
    "B/s": Tolerance(bar.RATIO, 1.0),
    TIMES: Tolerance(bar.RATIO),
}
_EXACT: Final = Tolerance()
_PACED: Final = Tolerance(1.1)  # the schedule decides; the same four runs differed by at most 1.02 times
_EACH: Final = Tolerance(bar.RATIO, bar.BYTES_EACH / 2)
_ONCE: Final = Tolerance(bar.RATIO, bar.BYTES_ONCE)
_SEARCHED: Final = Tolerance(1.25)  # known to a tenth, on a grid of doublings


class Figure(NamedTuple):
    name: str
    unit: str
    meaning: str
    bar: Bar | None = None
    column: Column | None = None
    tile: str = ""  # the caption, if the page shows it large
    better: Better = Better.LESS
    own_tolerance: Tolerance | None = None  # by default that of its unit
    late: bool = False  # about how long something took, although its unit is not a time
    proof: bool = False  # about what the server said, which no lack of the generator changes
    group: str = ""

    @property
    def is_time(self) -> bool:
        return self.late or self.unit == "ms"

    @property
    def tolerance(self) -> Tolerance:
        return self.own_tolerance or _TOLERANCE.get(self.unit, _EXACT)


Figures = Mapping[str, float | None]

_NONE: Final = Bar()
_COMPARED: Final = Bar(when=When.COMPARED)


def _wide(name: str) -> Column:
    return Column(name, MARKDOWN_ONLY)


_P50: Final = _wide("p50, ms")
_P99: Final = Column("p99, ms", 1)
_STEAL: Final = _wide("the host took, %")


def _of_the_load(*declared: Figure) -> tuple[Figure, ...]:
    """Figures of the attackers or the generator, which say something about the target only if they are judged."""
    return tuple(each if each.bar else each._replace(better=_NEITHER) for each in declared)


_VICTIMS: Final = (
    Figure("success_percent", "%", "victims' operations during the attack that succeeded",
           column=Column("victims, %", 2), better=_MORE, own_tolerance=_EXACT),
    Figure("baseline_failed", "", "victims' operations before the attack that failed", _NONE),
    Figure("attack_failed", "", "victims' operations during the attack that failed", _NONE,
           tile="victims' operations failed under attack"),
    Figure("recovery_failed", "", "victims' operations after the attack that failed", _NONE),
    Figure("newcomers_came", "", "healthy clients that came for one operation during the attack",
           better=_NEITHER),
    Figure("newcomers_success_percent", "%", "newcomers during the attack that succeeded", column=Column("new, %", 2),
           better=_MORE, own_tolerance=_EXACT),
    Figure("newcomers_failed", "", "newcomers that failed, in all phases", Bar(when=When.NEWCOMERS)),
    Figure("newcomers_p99_ms", "ms", "newcomers' operations during the attack, connect included, 99th percentile",
           column=_wide("newcomers' p99, ms"), better=_NEITHER),
    Figure("baseline_p50_ms", "ms", "the victims' operations before the attack, median", column=_P50, better=_NEITHER),
    Figure("baseline_p99_ms", "ms", "the victims' operations before the attack, 99th percentile", column=_P99,
           better=_NEITHER),
    Figure("attack_p50_ms", "ms", "the victims' operations during the attack, median", column=_P50),
    Figure("attack_p99_ms", "ms", "the victims' operations during the attack, 99th percentile",
           Bar(">", bar.NOTICED_MS, far=True), _P99, "victims' 99th percentile under attack"),
    Figure("attack_p999_ms", "ms", "the victims' operations during the attack, 99.9th percentile", better=_NEITHER),
    Figure("attack_max_ms", "ms", "the victims' operations during the attack, at worst", better=_NEITHER),
    Figure("attack_ws_p99_ms", "ms", "WebSocket round trips during the attack, 99th percentile"),
    Figure("attack_poll_p99_ms", "ms", "long-polls during the attack, 99th percentile"),
    Figure("attack_sse_p99_ms", "ms", "event streams during the attack, 99th percentile"),
    Figure("attack_get_p99_ms", "ms", "plain requests during the attack, 99th percentile"),
    Figure("recovery_p50_ms", "ms", "the victims' operations after the attack, median", column=_P50),
    Figure("recovery_p99_ms", "ms", "the victims' operations after the attack, 99th percentile", column=_P99),
    Figure("p99_ratio", TIMES, "99th percentile during the attack divided by the baseline's", late=True,
           better=_NEITHER),
    Figure("floor_baseline_p99_ms", "ms",
           "the victims at the floor before the same attack, 99th percentile (--floor)",
           column=_wide("the floor's p99, ms"), better=_NEITHER),
    Figure("floor_p99_ms", "ms", "the victims at the floor during the same attack, 99th percentile (--floor)",
           column=_wide("the floor's p99, ms"),
           better=_NEITHER),
    Figure("floor_p99_ratio", TIMES, "99th percentile during the attack divided by the floor's (--floor)",
           column=_wide("ratio to the floor"), late=True, better=_NEITHER),
    Figure("p99_over_bar_ms", "ms", "99th percentile above the bar, of the transport that exceeds it most", _COMPARED),
    Figure("recovery_p99_over_bar_ms", "ms",
           "99th percentile above the bar after the attack, of the transport that exceeds it most", _COMPARED),
    Figure("worst_victim_over_bar_ms", "ms",
           "the highest median of a single victim during the attack, above the same bar", _COMPARED),
    Figure("first_failure_s", "s", "from the begin of the attack to the first operation that failed", better=_NEITHER),
    Figure("recover_s", "s", "from the end of the attack until nothing that was due failed any more and the bar was"
           " kept", late=True),
)  # fmt: skip

_MESSAGES_KEPT: Final = (
    Figure("acknowledged", "", "messages that the server acknowledged and that were read again after the attack",
           better=_NEITHER, own_tolerance=_PACED),
    Figure("acknowledged_lost", "", "acknowledged messages and changes that the history lacks or has wrongly",
           Bar(when=When.KEPT), proof=True),
    Figure("members_wrong", "", "victims that lists of members lack, and newcomers that they still have",
           Bar(when=When.MEMBERS)),
)  # fmt: skip

_NEIGHBOURS: Final = (
    Figure("neighbours", "", "honest slow clients beside the attack", better=_NEITHER),
    Figure("collateral", "", "honest clients beside the attack that the server refused, failed, ended or did not let"
           " in", Bar(when=When.NEIGHBOURS), Column("collateral", 3), "honest slow clients hurt"),
)  # fmt: skip

_MESSAGES: Final = (
    Figure("ack_p50_ms", "ms", "intended send time to acknowledgement, or to the answer of a request, median"),
    Figure("ack_p99_ms", "ms", "intended send time to acknowledgement, 99th percentile",
           Bar(">", bar.NOTICED_MS, When.SPEAKERS, far=True), tile="to the acknowledgement, 99th percentile"),
    Figure("ack_max_ms", "ms", "intended send time to acknowledgement, at worst", better=_NEITHER),
    Figure("echo_p50_ms", "ms", "intended send time to the sender's own message coming back, median"),
    Figure("echo_p99_ms", "ms", "intended send time to the sender's own message coming back, 99th percentile",
           Bar(">", bar.NOTICED_MS, When.ECHOES, far=True), tile="until a message is back, 99th percentile"),
    Figure("echo_max_ms", "ms", "intended send time to the sender's own message coming back, at worst",
           better=_NEITHER),
    Figure("unacknowledged", "", "messages sent and never acknowledged, and requests never answered",
           Bar(when=When.SPEAKERS)),
    Figure("unreturned", "", "messages sent that never came back to their sender", Bar(when=When.ECHOES)),
    Figure("missed", "",
           "acknowledged messages that members did not get, for each member",
           Bar(when=When.GATHERED)),
    Figure("surplus", "", "messages that members got twice or from another room, for each member",
           Bar(when=When.GATHERED)),
    Figure("message_errors", "", "messages and requests that the server refused with an error",
           Bar(when=When.SPEAKERS)),
    Figure("messages_per_s", "/s",
           "messages acknowledged or requests answered a second, without those answered after their phase",
           tile="messages acknowledged", better=_MORE, own_tolerance=_PACED),
    Figure("deliveries_per_s", "/s", "messages delivered to virtual clients a second",
           better=_MORE, own_tolerance=_PACED),
)  # fmt: skip

_CLIENTS: Final = (
    Figure("held", "", "most clients established in the steady window", better=_MORE),
    Figure("refused", "", "clients turned away: connection refused, 429, 503", _NONE),
    Figure("failed", "", "clients that were not established for another reason", _NONE),
    Figure("ended", "", "clients that the server disconnected, unless as planned, or that left for what it sent", _NONE,
           tile="clients disconnected"),
    Figure("connect_p50_ms", "ms", "from connect until the connection was established, median"),
    Figure("connect_p99_ms", "ms", "from connect until the connection was established, 99th percentile"),
    Figure("handshake_p50_ms", "ms", "from connect until a client was established (TLS, upgrade, join), median"),
    Figure("handshake_p99_ms", "ms", "from connect until a client was established, 99th percentile"),
    Figure("sent_bytes_per_s", "B/s", "bytes that clients sent a second in the steady window", better=_NEITHER),
    Figure("received_bytes_per_s", "B/s", "bytes that clients received a second in the steady window", better=_NEITHER),
)  # fmt: skip

_ATTACKERS: Final = _of_the_load(
    Figure("attackers_asked", "", "attackers that were asked for", column=_wide("attackers asked")),
    Figure("attackers_came", "", "attackers that reached the server: accepted, or refused by an answer",
           column=Column("came", 6)),
    Figure("attacker_addresses", "", "source addresses of the attackers (--per-address)"),
    Figure("attempts_per_s", "/s", "connections that attackers tried to make a second", column=_wide("attempts/s")),
    Figure("attacker_bytes_per_s", "B/s", "bytes that attackers sent a second", column=_wide("sent, B/s")),
    Figure("attackers_peak", "", "most attackers connected at one moment", column=_wide("at one moment")),
    Figure("attackers_held", "", "attackers still connected when the attack ended", column=Column("at the end", 5)),
    Figure("attackers_refused", "", "attempts turned away: connection refused, 429, 503"),
    Figure("attackers_killed", "", "attackers disconnected by the server", tile="attackers disconnected"),
    Figure("kill_p50_s", "s", "age at which attackers were disconnected, median",
           column=Column("killed at, s", 4)),
    Figure("kill_max_s", "s", "age at which attackers were disconnected, at worst"),
    Figure("malformed_accepted", "", "requests accepted that programs may read differently, or that another site sent",
           Bar(when=When.MALFORMED), proof=True),
)  # fmt: skip

_RUN_COST: Final = (
    Figure("own_cpu_us_per_client", "µs", "CPU of the generator to open each client", better=_NEITHER),
    Figure("server_cpu_us_per_client", "µs", "server CPU to open each client (--server-pid)"),
    Figure("server_bytes_per_connection", "B", "growth of the server's memory for each connection (--server-pid)",
           tile="of server memory for each connection", own_tolerance=_EACH),
    Figure("server_bytes_per_further_connection", "B",
           "growth of the server's memory for each connection of the crowd's second half (--server-pid)",
           own_tolerance=_EACH),
    Figure("server_cpu_us_per_connection_s", "µs",
           "server CPU per connection-second in the steady window (--server-pid)"),
)  # fmt: skip

_ATTACK_COST: Final = (
    Figure("server_cpu_us_per_attacker_s", "µs",
           "server CPU above the baseline per attacker-second (--server-pid)"),
    Figure("server_cpu_percent", "%", "server CPU during the attack, of one core (--server-pid)",
           column=_wide("server CPU, % of a core")),
    Figure("server_bytes_grown", "B",
           "most that the server's memory grew in the attack, less the baseline's growth (--server-pid)",
           column=_wide("memory"), own_tolerance=_ONCE),
    Figure("server_bytes_per_attacker", "B", "server_bytes_grown for each attacker that came (--server-pid)",
           column=_wide("an attacker"), tile="of server memory for each attacker", own_tolerance=_EACH),
    Figure("server_bytes_over_bar", "B",
           "growth of server memory above the limit: 2 KiB for each attacker (TLS: 50) and 512 KiB once (--server-pid)",
           Bar(when=When.WATCHED), own_tolerance=_ONCE),
    Figure("server_bytes_left_over_bar", "B",
           "server memory left above the limit: 1 KiB for each attacker (TLS: 49) and 512 KiB once (--server-pid)",
           Bar(when=When.WATCHED), own_tolerance=_ONCE),
    Figure("server_bytes_left", "B", "server memory after recovery above the baseline, less the baseline's growth"
           " (--server-pid)", column=_wide("left"), own_tolerance=_ONCE),
    Figure("server_descriptors_left", "", "server descriptors after recovery above the baseline (--server-pid)",
           Bar(">", bar.DESCRIPTORS_LEFT, When.WATCHED), own_tolerance=Tolerance(1.0, bar.DESCRIPTORS_LEFT)),
)  # fmt: skip

_ATTACK_NOISE: Final = _of_the_load(
    Figure("crowd_lag_p99_ms", "ms",
           "how late the attackers' processes ran during the attack"),
    Figure("baseline_pressure_percent", "%",
           "time before the attack in which programs waited for a processor that others than the server had"),
    Figure("recovery_pressure_percent", "%",
           "time after the attack in which programs waited for a processor that others than the server had"),
    Figure("baseline_steal_percent", "%",
           "processor time that the host took (steal), before the attack",
           column=_STEAL),
)  # fmt: skip

_RUN_NOISE: Final = _of_the_load(
    Figure("own_bytes_per_client", "B", "memory of the generator for each virtual client", own_tolerance=_EACH),
    Figure("connects_per_s", "/s", "connections established a second while the crowd opened"),
)

_NOISE: Final = _of_the_load(
    Figure("round_trip_ms", "ms", "a GET on the network alone: two of its round trips, three over TLS"),
    Figure("lag_p99_ms", "ms", "how late the measuring processes ran, 99th percentile of the latest"),
    Figure("lag_max_ms", "ms", "how late the measuring processes ran, at worst"),
    Figure("backlog_p99_ms", "ms", "how long data waited for the measuring processes in the kernel, 99th percentile"),
    Figure("backlog_max_ms", "ms", "how long data waited for the measuring processes in the kernel, at worst"),
    Figure("own_cpu_percent", "%", "CPU that the busiest measuring process used, of one core"),
    Figure("own_cpu_wait_percent", "%",
           "time that a measuring process was ready to run and others had the CPU, at worst"),
    Figure("server_cpu_wait_percent", "%",
           "time of a phase that a thread of the server was ready to run and other programs had the CPU, at worst"
           " (--server-pid)"),
    Figure("steal_percent", "%", "processor time that the host took (steal), in the steady window or the attack",
           column=_STEAL),
)  # fmt: skip


def named(declared: Iterable[Figure], group: str = "") -> MappingProxyType[str, Figure]:
    """Figures by name; the group is the heading under which they are shown."""
    return MappingProxyType({figure.name: figure._replace(group=group) for figure in declared})


#: The groups in which figures are shown.
GROUPS: Final = ("victims", "honest slow clients", "messages", "clients", "attackers", "cost", "generator")

COMMON: Final = named(_NOISE, "generator")
RUN: Final = (
    named(_CLIENTS, "clients")
    | named(_MESSAGES, "messages")
    | named(_RUN_COST, "cost")
    | named(_RUN_NOISE, "generator")
    | COMMON
)
ATTACK: Final = (
    named(_VICTIMS, "victims")
    | named(_MESSAGES_KEPT, "messages")
    | named(_NEIGHBOURS, "honest slow clients")
    | named(_ATTACKERS, "attackers")
    | named(_ATTACK_COST, "cost")
    | named(_ATTACK_NOISE, "generator")
    | COMMON
)
ALL: Final = ATTACK | RUN

CAPACITY: Final = named((
    Figure("capacity", "", "the most at which the bar still held", better=_MORE, own_tolerance=_SEARCHED),
    Figure("fell_short_at", "", "the least at which it did not hold", better=_MORE, own_tolerance=_SEARCHED),
))  # fmt: skip

#: A scorecard counts its rows by outcome.
SCORECARD: Final = named((
    Figure("attacks", "", "attacks that were played", better=_NEITHER),
    Figure("held", "", "attacks in which the target held", better=_MORE),
    Figure("fell_short", "", "attacks in which it fell short"),
    Figure("invalid", "", "attacks that measured nothing"),
    Figure("not_exercised", "", "attacks that did not take place"),
))  # fmt: skip


def meanings(known: Mapping[str, Figure]) -> dict[str, str]:
    return {name: figure.meaning for name, figure in known.items()}


def columns() -> dict[Column, list[str]]:
    """The columns of a table of attacks, each with the figures that share its cells."""
    found: dict[Column, list[str]] = {}
    for figure in ATTACK.values():
        if figure.column is not None:
            found.setdefault(figure.column, []).append(figure.name)
    return found
