"""Every figure of a run and of an attack; `--fail-if` and every output know these and no others.

Owns: the closed list, in the order of reports, with each figure's unit, meaning, limit (`bar`) and column. A new one is
a row here, and the code that computes it in measured.py.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from loadgen import bar
from loadgen.target import UsageError


class When(Enum):
    """What an experiment must have for a figure to be judged."""

    ALWAYS = "always"
    SPEAKERS = "clients speak on a schedule"
    ECHOES = "what is said comes back"
    GATHERED = "what is said comes back, and no client comes after the first message"
    NEWCOMERS = "newcomers came"
    NEIGHBOURS = "honest slow clients are beside it"
    KEPT = "messages were read again"
    MALFORMED = "malformed requests were sent"
    WATCHED = "the server's process is known, and attackers came"


class Bar(NamedTuple):
    """The condition under which a figure fails the target."""

    sign: str = ">"
    limit: float = 0
    when: When = When.ALWAYS
    far: bool = False  # add the round trip to the target to the limit


class Column(NamedTuple):
    """A column of the tables that have a row for each attack. Figures with the same column share a cell."""

    heading: str
    spare: int  # order in which a narrow terminal drops columns: the highest first


#: Columns with this `spare` or more appear in Markdown only, because documents have room for them.
MARKDOWN_ONLY: Final = 9


class Figure(NamedTuple):
    name: str
    unit: str
    meaning: str
    bar: Bar | None = None
    column: Column | None = None
    tile: str = ""  # the caption, if the page shows it large
    late: bool = False  # about how long something took, although its unit is not a time
    proof: bool = False  # about what the server said, which no lack of the generator changes
    group: str = ""

    @property
    def is_time(self) -> bool:
        return self.late or self.unit == "ms"


Figures = Mapping[str, float | None]

TIMES: Final = "\N{MULTIPLICATION SIGN}"

_NONE: Final = Bar()


def _none(when: When) -> Bar:
    return Bar(when=when)


def _wide(heading: str) -> Column:
    return Column(heading, MARKDOWN_ONLY)


_P50: Final = _wide("p50, ms")
_P99: Final = Column("p99, ms", 1)
_STEAL: Final = _wide("the host took, %")

_VICTIMS: Final = (
    Figure("success_percent", "%", "victims' operations during the attack that succeeded",
           column=Column("victims, %", 2)),
    Figure("baseline_failed", "", "victims' operations before the attack that failed", _NONE),
    Figure("attack_failed", "", "victims' operations during the attack that failed", _NONE,
           tile="victims' operations failed under attack"),
    Figure("recovery_failed", "", "victims' operations after the attack that failed", _NONE),
    Figure("newcomers_came", "", "healthy clients that connected, did one operation and left, during the attack"),
    Figure("newcomers_success_percent", "%", "newcomers during the attack that succeeded", column=Column("new, %", 2)),
    Figure("newcomers_failed", "", "newcomers that failed, in all phases", _none(When.NEWCOMERS)),
    Figure("newcomers_p99_ms", "ms", "newcomers' operations during the attack, connect included, 99th percentile",
           column=_wide("newcomers' p99, ms")),
    Figure("baseline_p50_ms", "ms", "the victims' operations before the attack, median", column=_P50),
    Figure("baseline_p99_ms", "ms", "the victims' operations before the attack, 99th percentile", column=_P99),
    Figure("attack_p50_ms", "ms", "the victims' operations during the attack, median", column=_P50),
    Figure("attack_p99_ms", "ms", "the victims' operations during the attack, 99th percentile",
           Bar(">", bar.NOTICED_MS, far=True), _P99, "victims' 99th percentile under attack"),
    Figure("attack_p999_ms", "ms", "the victims' operations during the attack, 99.9th percentile"),
    Figure("attack_max_ms", "ms", "the victims' operations during the attack, at worst"),
    Figure("attack_ws_p99_ms", "ms", "WebSocket round trips during the attack, 99th percentile"),
    Figure("attack_poll_p99_ms", "ms", "long-polls during the attack, 99th percentile"),
    Figure("attack_sse_p99_ms", "ms", "event streams during the attack, 99th percentile"),
    Figure("attack_get_p99_ms", "ms", "plain requests during the attack, 99th percentile"),
    Figure("recovery_p50_ms", "ms", "the victims' operations after the attack, median", column=_P50),
    Figure("recovery_p99_ms", "ms", "the victims' operations after the attack, 99th percentile", column=_P99),
    Figure("p99_ratio", TIMES, "99th percentile during the attack divided by the baseline's", late=True),
    Figure("floor_baseline_p99_ms", "ms",
           "the same victims at the floor, before the same attack, 99th percentile (--floor)",
           column=_wide("the floor's p99, ms")),
    Figure("floor_p99_ms", "ms", "the same victims at the floor during the same attack, 99th percentile (--floor); an"
           " operation without an answer counts with the victims' timeout", column=_wide("the floor's p99, ms")),
    Figure("floor_p99_ratio", TIMES, "99th percentile during the attack divided by the floor's during the same"
           " (--floor)", column=_wide("ratio to the floor"), late=True),
    Figure("p99_over_bar_ms", "ms", "99th percentile above the bar, of the transport that exceeds it most; the bar is"
           " 1.5 times its baseline's or 25 ms above it, whichever is more", _NONE),
    Figure("recovery_p99_over_bar_ms", "ms", "p99_over_bar_ms after the attack instead of in it", _NONE),
    Figure("worst_victim_over_bar_ms", "ms",
           "the highest median of a single victim during the attack, above the same bar", _NONE),
    Figure("first_failure_s", "s", "from the begin of the attack to the first operation that failed"),
    Figure("recover_s", "s", "from the end of the attack until nothing failed any more and the bar was kept",
           late=True),
)  # fmt: skip

_MESSAGES_KEPT: Final = (
    Figure("acknowledged", "", "messages that the server acknowledged and that were read again after the attack"),
    Figure("acknowledged_lost", "", "acknowledged messages that the history lacks", _none(When.KEPT), proof=True),
)

_NEIGHBOURS: Final = (
    Figure("neighbours", "", "honest slow clients beside the attack"),
    Figure("collateral", "", "honest clients beside the attack that the server refused, failed, ended or did not let"
           " in", _none(When.NEIGHBOURS), Column("collateral", 3), "honest slow clients hurt"),
)  # fmt: skip

_MESSAGES: Final = (
    Figure("ack_p50_ms", "ms", "intended send time to acknowledgement, or to the answer of a request, median"),
    Figure("ack_p99_ms", "ms", "intended send time to acknowledgement, 99th percentile",
           Bar(">", bar.NOTICED_MS, When.SPEAKERS, far=True), tile="to the acknowledgement, 99th percentile"),
    Figure("ack_max_ms", "ms", "intended send time to acknowledgement, at worst"),
    Figure("echo_p50_ms", "ms", "intended send time to the sender's own message coming back, median"),
    Figure("echo_p99_ms", "ms", "intended send time to the sender's own message coming back, 99th percentile",
           Bar(">", bar.NOTICED_MS, When.ECHOES, far=True), tile="until a message is back, 99th percentile"),
    Figure("echo_max_ms", "ms", "intended send time to the sender's own message coming back, at worst"),
    Figure("unacknowledged", "", "messages sent and never acknowledged, and requests never answered",
           _none(When.SPEAKERS)),
    Figure("unreturned", "", "messages sent that never came back to their sender", _none(When.ECHOES)),
    Figure("missed", "",
           "acknowledged messages that members of their room did not get, counted for each member that missed one",
           _none(When.GATHERED)),
    Figure("surplus", "", "messages that members got twice, or that were meant for another room, counted for each such"
           " member", _none(When.GATHERED)),
    Figure("message_errors", "", "messages and requests that the server refused with an error", _none(When.SPEAKERS)),
    Figure("messages_per_s", "/s", "messages acknowledged or requests answered, late ones too, per second of the"
           " steady window", tile="messages acknowledged"),
    Figure("deliveries_per_s", "/s", "messages delivered to virtual clients a second"),
)  # fmt: skip

_CLIENTS: Final = (
    Figure("held", "", "clients established in the steady window"),
    Figure("refused", "", "clients turned away: connection refused, 429, 503", _NONE),
    Figure("failed", "", "clients that were not established for another reason", _NONE),
    Figure("ended", "", "clients that were established and that the server then ended", _NONE,
           tile="clients ended by the server"),
    Figure("connect_p50_ms", "ms", "from connect until the connection was established, median"),
    Figure("connect_p99_ms", "ms", "from connect until the connection was established, 99th percentile"),
    Figure("handshake_p50_ms", "ms", "from connect until a client was established (TLS, upgrade, join), median"),
    Figure("handshake_p99_ms", "ms", "from connect until a client was established, 99th percentile"),
    Figure("sent_bytes_per_s", "B/s", "bytes that clients sent a second in the steady window"),
    Figure("received_bytes_per_s", "B/s", "bytes that clients received a second in the steady window"),
)  # fmt: skip

_ATTACKERS: Final = (
    Figure("attackers_asked", "", "attackers that were asked for", column=_wide("attackers asked")),
    Figure("attackers_came", "", "attackers that reached the server at some time: accepted, or refused by an answer",
           column=Column("came", 6)),
    Figure("attempts_per_s", "/s", "connections that attackers tried to make a second", column=_wide("attempts/s")),
    Figure("attacker_bytes_per_s", "B/s", "bytes that attackers sent a second", column=_wide("sent, B/s")),
    Figure("attackers_peak", "", "most attackers connected at one moment", column=_wide("at one moment")),
    Figure("attackers_held", "", "attackers still connected when the attack ended", column=Column("at the end", 5)),
    Figure("attackers_refused", "", "attempts turned away: connection refused, 429, 503"),
    Figure("attackers_killed", "", "attackers disconnected by the server", tile="attackers disconnected"),
    Figure("kill_p50_s", "s", "age at which attackers were disconnected, median",
           column=Column("killed at, s", 4)),
    Figure("kill_max_s", "s", "age at which attackers were disconnected, at worst"),
    Figure("malformed_accepted", "", "malformed requests accepted although two programs may read them differently",
           _none(When.MALFORMED), proof=True),
)  # fmt: skip

_RUN_COST: Final = (
    Figure("own_cpu_us_per_client", "µs", "CPU of the generator to open each client, in us"),
    Figure("server_cpu_us_per_client", "µs", "server CPU to open each client, in us (--server-pid)"),
    Figure("server_bytes_per_connection", "B", "growth of the server's memory for each connection (--server-pid)",
           tile="of server memory for each connection"),
    Figure("server_bytes_per_further_connection", "B",
           "growth of the server's memory for each connection of the crowd's second half (--server-pid)"),
    Figure("server_cpu_us_per_connection_s", "µs",
           "server CPU per connection-second when steady, in us (--server-pid)"),
)  # fmt: skip

_ATTACK_COST: Final = (
    Figure("server_cpu_us_per_attacker_s", "µs",
           "server CPU above the baseline per attacker-second, in us (--server-pid)"),
    Figure("server_cpu_percent", "%", "server CPU during the attack, of one core (--server-pid)",
           column=_wide("server CPU, % of a core")),
    Figure("server_bytes_grown", "B", "the most by which the server's memory grew in the attack, less the baseline's"
           " growth (--server-pid)", column=_wide("memory")),
    Figure("server_bytes_per_attacker", "B", "server_bytes_grown for each attacker that came (--server-pid)",
           column=_wide("an attacker"), tile="of server memory for each attacker"),
    Figure("server_bytes_over_bar", "B",
           "growth of server memory above the limit: 2 KiB for each attacker (TLS: 50) and 512 KiB once (--server-pid)",
           _none(When.WATCHED)),
    Figure("server_bytes_left_over_bar", "B", "server memory left above the limit: 1 KiB for each attacker (TLS:"
           " 49) and 512 KiB once (--server-pid)", _none(When.WATCHED)),
    Figure("server_bytes_left", "B", "server memory after recovery above the baseline, less the baseline's growth"
           " (--server-pid)", column=_wide("left")),
    Figure("server_descriptors_left", "", "server descriptors after recovery above the baseline (--server-pid)",
           Bar(">", bar.DESCRIPTORS_LEFT, When.WATCHED)),
)  # fmt: skip

_ATTACK_NOISE: Final = (
    Figure("crowd_lag_p99_ms", "ms",
           "how late the attackers' own processes ran during the attack; they have a lower priority than all others"),
    Figure("baseline_pressure_percent", "%",
           "time before the attack in which a program on this machine waited for a processor"),
    Figure("recovery_pressure_percent", "%",
           "time after the attack in which a program on this machine waited for a processor"),
    Figure("baseline_steal_percent", "%",
           "share of this machine's processor time that the host took (steal), before the attack",
           column=_STEAL),
)  # fmt: skip

_NOISE: Final = (
    Figure("round_trip_ms", "ms", "duration of a GET before the run, connect included: the distance to the target; of"
           " the connect alone, if the GET is not answered"),
    Figure("lag_p99_ms", "ms", "how late the measuring processes ran while they measured, 99th percentile of the latest"
           " process"),
    Figure("lag_max_ms", "ms", "how late the measuring processes ran while they measured, at worst"),
    Figure("backlog_p99_ms", "ms", "how long, at least, data waited in the kernel before the measuring processes read"
           " it, 99th percentile of the latest process"),
    Figure("backlog_max_ms", "ms", "how long, at least, data waited in the kernel before the measuring processes read"
           " it, at worst"),
    Figure("own_bytes_per_client", "B", "memory of the generator for each virtual client"),
    Figure("own_cpu_percent", "%", "CPU that the busiest measuring process used, of one core"),
    Figure("own_cpu_wait_percent", "%",
           "time that a measuring process was ready to run and others had the CPU, at worst"),
    Figure("server_cpu_wait_percent", "%",
           "time that the server was ready to run and other programs had the CPU (--server-pid)"),
    Figure("steal_percent", "%", "share of this machine's processor time that the host took (steal), in the steady"
           " window or during the attack", column=_STEAL),
    Figure("connects_per_s", "/s", "connections established a second while the crowd opened"),
)  # fmt: skip


def _named(**groups: Iterable[Figure]) -> dict[str, Figure]:
    """Figures by name, each with its group; an underscore stands for a space."""
    return {
        figure.name: figure._replace(group=group.replace("_", " "))
        for group, figures in groups.items()
        for figure in figures
    }


#: The groups in which figures are shown.
GROUPS: Final = ("victims", "honest slow clients", "messages", "clients", "attackers", "cost", "generator")

COMMON: Final = MappingProxyType(_named(generator=_NOISE))
RUN: Final = MappingProxyType(_named(clients=_CLIENTS, messages=_MESSAGES, cost=_RUN_COST) | COMMON)
ATTACK: Final = MappingProxyType(
    _named(
        victims=_VICTIMS,
        messages=_MESSAGES_KEPT,
        honest_slow_clients=_NEIGHBOURS,
        attackers=_ATTACKERS,
        cost=_ATTACK_COST,
        generator=_ATTACK_NOISE,
    )
    | COMMON
)
ALL: Final = MappingProxyType(ATTACK | RUN)
CAPACITY: Final = MappingProxyType(
    {
        "capacity": Figure("capacity", "", "the most at which the bar still held"),
        "fell_short_at": Figure("fell_short_at", "", "the least at which it did not hold"),
    }
)

#: The units of figures that are declared elsewhere, by the last word of their names.
_BY_LAST_WORD: Final = {"percent": "%", "bytes": "B", "bps": "B/s", "ms": "ms", "s": "s", "ratio": TIMES}

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne}
)
_CONDITION: Final = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(>=|<=|==|!=|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*")


class Condition(NamedTuple):
    """A threshold: the run fails if it is true."""

    figure: str
    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.figure}{self.sign}{self.limit:g}"

    @property
    def is_time(self) -> bool:
        """Whether it is about how long something took, which other programs can change."""
        return self.figure in ALL and ALL[self.figure].is_time

    def proves(self, figures: Figures) -> bool:
        """Whether it is true of the target, whatever became of the generator."""
        return self.figure in ALL and ALL[self.figure].proof and figures[self.figure] is not None

    def judge(self, figures: Figures) -> str | None:
        """Say why the run fails by this condition, or return `None`."""
        value = figures[self.figure]
        if value is None:
            return f"{self.figure} was not measured, so {self} cannot be judged"
        shown = f"{value:g}" if abs(value) < 10_000 else f"{value:,.0f}"
        return f"{self.figure} is {shown} ({self})" if _OPERATORS[self.sign](value, self.limit) else None


def meanings(known: Mapping[str, Figure]) -> dict[str, str]:
    return {name: figure.meaning for name, figure in known.items()}


def unit_of(name: str) -> str:
    return ALL[name].unit if name in ALL else _BY_LAST_WORD.get(name.rpartition("_")[2], "")


def columns() -> dict[Column, list[str]]:
    """The columns of a table of attacks, each with the figures that share its cells."""
    found: dict[Column, list[str]] = {}
    for figure in ATTACK.values():
        if figure.column is not None:
            found.setdefault(figure.column, []).append(figure.name)
    return found


def bar_of(known: Mapping[str, Figure], given: Iterable[When], *, round_trip_ms: float) -> tuple[Condition, ...]:
    """The default conditions on a target, for an experiment that has the given things."""
    given = {When.ALWAYS, *given}
    return tuple(
        Condition(figure.name, figure.bar.sign, round(figure.bar.limit + figure.bar.far * round_trip_ms, 1))
        for figure in known.values()
        if figure.bar is not None and figure.bar.when in given
    )


def parse(conditions: Iterable[str], known: Iterable[str], *, server_pid: bool) -> tuple[Condition, ...]:
    """Read `--fail-if` arguments, each one or more comma-separated conditions."""
    known = tuple(known)
    return tuple(_parse(text, known, server_pid) for many in conditions for text in many.split(","))


def _parse(text: str, known: tuple[str, ...], server_pid: bool) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(f"--fail-if: {text!r} is not of the form 'FIGURE>NUMBER'")
    name, sign, limit = match.groups()
    if name not in known:
        raise UsageError(f"--fail-if: there is no figure {name!r}; known are {', '.join(sorted(known))}")
    if name.startswith("server_") and not server_pid:
        raise UsageError(f"--fail-if: {name} is only measured with --server-pid")
    return Condition(name, sign, float(limit))
