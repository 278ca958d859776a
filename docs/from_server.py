"""The blocks generated from the server's code: codes, limits, states, metrics and dependencies.

Owns: how each is shown. May not: state a fact itself; each comes from the module that owns it.
"""

import inspect
import re
import ssl
import tomllib
from collections.abc import Callable
from contextlib import closing
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import trio
from markdown_table import table
from prometheus_client.core import Metric

from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.member import Member, PollWaiter
from chatserver.chat.principal import Principal
from chatserver.edge.requests import Upload
from chatserver.listening import Listening
from chatserver.log import open_log
from chatserver.net import admission
from chatserver.net.connection import Connection
from chatserver.net.readiness import Readiness
from chatserver.net.scheduler import QUANTUM
from chatserver.net.states import TABLE, Priority, Reads, Reclaim, Row, State
from chatserver.net.tls import TlsEngine
from chatserver.net.tls_transport import TlsTransport
from chatserver.observe.loop import LoopMeter
from chatserver.observe.memory import Collector
from chatserver.observe.metrics import ServerMetrics
from chatserver.parts import build
from chatserver.protocol.body import LengthBody
from chatserver.reasons import CloseCode, Contract, ErrorCode, Reason
from chatserver.settings.describe import shown_value
from chatserver.settings.fields import SPECS, TYPES, Settings, flag_name
from chatserver.settings.spec import Section
from chatserver.workers.metrics import WorkersMetrics

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

#: Extras for development only.
_ONLY_HERE = ("dev", "bench")
_DEPENDENCY = re.compile(r'^  "([A-Za-z0-9-]+)([^"]*)", +# (.+)$', re.MULTILINE)
_CONTRACTS = {
    Contract.COME_BACK: "come back",
    Contract.BACK_OFF: "back off",
    Contract.DO_NOT: "do not retry",
}


def contracts() -> str:
    """What the words of the column `client` in the other tables ask for."""
    return table(("in the tables", "a client should"), ((_CONTRACTS[each], each.value) for each in Contract))


def error_codes() -> str:
    """Every `code` of an error."""
    rows = ((f"`{each.code}`", str(each.status), each.sentence, _CONTRACTS[each.contract]) for each in ErrorCode)
    return table(("code", "status", "what it says", "client"), rows)


def close_codes() -> str:
    """Every code of a close frame, with the reasons that use it."""
    rows = []
    for code in CloseCode:
        reasons = [reason for reason in Reason if reason.close_code is code]
        asked = sorted({_CONTRACTS[reason.contract] for reason in reasons})
        rows.append((f"`{code.value}`", ", ".join(f"`{reason.label}`" for reason in reasons), " or ".join(asked)))
    return table(("code", "reasons", "client"), rows)


def close_reasons() -> str:
    """Every reason for which a connection ends."""
    rows = (
        (f"`{each.label}`", each.sentence, str(each.close_code.value), _CONTRACTS[each.contract]) for each in Reason
    )
    return table(("reason", "what it says", "code", "client"), rows)


def limits() -> str:
    """Every limit that a client can meet."""
    defaults = Settings()
    shown = (Section.ADMISSION, Section.DEADLINES, Section.SIZES, Section.RATES)
    rows = (
        (f"`--{flag_name(name)}`", shown_value(name, getattr(defaults, name)), spec.meaning)
        for name, spec in SPECS.items()
        if spec.section in shown
    )
    return table(("flag", "default", "what it bounds"), rows)


def serve_flags() -> str:
    """Every flag of `chatserver serve` that is not among the limits."""
    defaults = Settings()
    rows = (
        (
            f"`--{flag_name(name)}`" if TYPES[name] is bool else f"`--{flag_name(name)} {spec.metavar}`",
            "" if TYPES[name] is bool else shown_value(name, getattr(defaults, name)),
            spec.meaning,
        )
        for name, spec in SPECS.items()
        if spec.section in (Section.SERVICE, Section.MEMORY)
    )
    return table(("flag", "default", "meaning"), rows)


# -- the table of states ----------------------------------------------------------------------------------------------


class Built(NamedTuple):
    """Facts that only an assembled server knows."""

    handlers: dict[State, str]
    contexts: dict[State, str]
    metrics: list[Metric]


@cache
def built() -> Built:
    """Assemble a server with TLS, behind a proxy, without a socket, and ask it. It never runs."""

    async def ask() -> Built:
        settings, log = Settings(log="memory:", trusted_proxy=("192.0.2.1",)), open_log("memory:")
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run, lambda records: None)
            with closing(Readiness()) as readiness:
                parts = build(
                    settings, total=1, log=log, readiness=readiness, listening=Listening([[]], None),
                    nursery=nursery, loop=LoopMeter(), garbage=Collector(), ready=lambda: True,
                    engine=TlsEngine(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
                )  # fmt: skip
                metrics = ServerMetrics(parts)
                handlers, contexts = {}, {}
                for state in State:
                    handlers[state] = type(parts.connections.handlers[state]).__name__
                    context = parts.connections.context_types[state]
                    contexts[state] = "" if context is type(None) else f"`{context.__name__}`"
                found = Built(handlers, contexts, list(chain.from_iterable(metrics.collect())))
            nursery.cancel_scope.cancel()
        return found

    return trio.run(ask)


_READS = {Reads.YES: "yes", Reads.NO: "no", Reads.HANGUP: "no, but a reset is noticed"}


def states() -> str:
    """The columns of the state table for operators, and `FLUSH`, which is no row."""
    rows = (
        (
            f"`{state.name}`",
            row.waits_for,
            _span(row),
            f"`{row.expires.label}`" if row.expires else "no fault",
            "never" if row.reclaim is Reclaim.NEVER else f"{row.reclaim + 1}",
            row.precedent,
        )
        for state, row in TABLE.items()
    )
    defaults = Settings()
    flush = (
        f"`FLUSH` applies in any of them while the peer has not taken what was written. A peer that acknowledges less"
        f" than {defaults.flush_rate} B/s (`--flush-rate`) over {defaults.flush_window:g} s (`--flush-window`) is"
        f" aborted as `{Reason.FLUSH_DEADLINE.label}`."
    )
    head = ("state", "waits for", "default", "expiry counts as", "eviction order", "what others do")
    return f"{table(head, rows)}\n\n{flush}"


def _span(row: Row) -> str:
    if isinstance(row.seconds, str):
        shown = f"{shown_value(row.seconds, getattr(Settings(), row.seconds))}, `--{flag_name(row.seconds)}`"
    else:
        shown = f"{row.seconds:g} s"
    if row.expires is None:
        return shown
    return f"{shown}, in total" if row.total else f"{shown}, in total, more with progress"


def state_handlers() -> str:
    """The columns of the state table for readers of the code."""
    rows = (
        (
            f"`{state.name}`",
            f"`{built().handlers[state]}`",
            built().contexts[state],
            f"`{row.priority.name}`",
            _READS[row.reads],
            ", ".join(each.name for each in row.next),
        )
        for state, row in TABLE.items()
    )
    return table(("state", "handler", "carries", "class", "is read", "leads to"), rows)


def state_diagram() -> str:
    """The moves between states. States with the same successors share a box."""
    boxes = _boxes()
    box_of = {state: box for box in boxes for state in box}
    name_of = {state: "_".join(each.name for each in box_of[state]) for state in State}
    lines = ["```mermaid", "flowchart LR"]
    for box in boxes:
        if len(box) > 1:
            lines += [f'  subgraph {name_of[box[0]]}[" "]', *(f"    {state.name}" for state in box), "  end"]
        else:
            lines.append(f"  {box[0].name}")
    moves: dict[tuple[str, str], None] = {}
    for box in boxes:
        for state in box:
            moves.update({(state.name, then.name): None for then in _leads_to(state) if then in box})
        targets = _leads_to(box[0]) - set(box)
        for then in sorted(targets):
            whole = set(box_of[then]) <= targets
            moves[name_of[box[0]], name_of[then] if whole else then.name] = None
    order = list(moves)
    for number, (begin, end) in enumerate(order):
        back = (end, begin) in moves
        if not back or number < order.index((end, begin)):  # a move and its way back are one arrow
            lines.append(f"  {begin} {'<-->' if back else '-->'} {end}")
    return "\n".join([*lines, "```"])


def _leads_to(state: State) -> set[State]:
    return set(TABLE[state].next) - {state}


def _boxes() -> list[list[State]]:
    """Groups of states with the same successors outside the group, if they have any."""
    boxes: list[list[State]] = []
    for state in State:
        for box in boxes:
            together = {*box, state}
            outside = [_leads_to(each) - together for each in together]
            if outside[0] and all(each == outside[0] for each in outside):
                box.append(state)
                break
        else:
            boxes.append([state])
    return boxes


# -- the scheduler and the gate ---------------------------------------------------------------------------------------


def _remarks(owner: type) -> dict[str, str]:
    """The comments on constants in a source file: after them, or in the `#:` lines above."""
    source = inspect.getsource(owner)
    names = r"([A-Z][A-Z_]*(?:, [A-Z][A-Z_]*)*)(?:: [^=\n]+)? = "
    found: dict[str, str] = {}
    for told, name in re.findall(rf"((?:^ *#: .*\n)+) *{names}", source, re.MULTILINE):
        found[name] = " ".join(line.strip().removeprefix("#: ") for line in told.splitlines())
    return found | dict(re.findall(rf"^ *{names}[^#\n]*?  # (.+)$", source, re.MULTILINE))


def _states_of(fact: Callable[[Row], object], value: object) -> str:
    return ", ".join(f"`{state.name}`" for state, row in TABLE.items() if fact(row) is value)


def scheduler_classes() -> str:
    """The scheduler's classes and their shares of a round."""
    remarks = _remarks(Priority)
    rows = (
        (
            f"`{each.name}`",
            remarks[each.name],
            f"{QUANTUM[each] * 1000:g} ms",
            _states_of(lambda row: row.priority, each),
        )
        for each in Priority
    )
    return table(("class", "work", "of a round", "states"), rows)


def reclaim_ranks() -> str:
    """The order of eviction."""
    remarks = _remarks(Reclaim)
    rows = (
        (
            "never" if each is Reclaim.NEVER else f"{each + 1}",
            f"`{each.name}`",
            remarks.get(each.name, "members, and connections that wait for our answer"),
            _states_of(lambda row: row.reclaim, each),
        )
        for each in Reclaim
    )
    return table(("eviction order", "rank", "which connections", "states"), rows)


def water_marks() -> str:
    """When places are reclaimed before a newcomer needs one."""
    high, low = admission.HIGH_WATER, admission.LOW_WATER
    return table(
        ("mark", "places taken", "what happens"),
        (
            ("high", f"{high:.0%}", "once a second, while more are taken, places are reclaimed"),
            ("low", f"{low:.0%}", "until no more than this are taken; of what one scan finds the worse half at most"),
        ),
    )


def metrics() -> str:
    """The names in `/metrics`."""
    rows = []
    for each in [*built().metrics, *WorkersMetrics(list).collect()]:
        name = f"{each.name}_total" if each.type == "counter" else each.name
        rows.append((f"`{name}`", each.type, each.documentation))
    return table(("metric", "kind", "what it is"), rows)


_ENTRIES = 16  # bytes: a place in the table, an entry in the wheel and its tick
_GC_HEAD, _HAS_GC = 16, 1 << 14  # bytes in front of an object that the collector visits; the flag of its type
_PARKED: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("any", (), ""),
    ("slow head", (), "what it sent"),
    ("slow body", (Upload, LengthBody), "what it sent, head included"),
    ("held poll", (Principal, PollWaiter), "the principal's number 32, its entries in the room's tables"),
    ("event stream", (Principal, Member), "the same"),
    ("WebSocket in a room", (Principal, WebSocketSession, Member), "the same, and so for each further room"),
    ("any, under TLS", (TlsTransport,), "OpenSSL's: 14,000 (TLS 1.3), 13,000 (1.2)"),
)


def connection_memory() -> str:
    """The memory of one parked connection, by part."""
    rows = []
    for name, structs, besides in _PARKED:
        sizes = {struct: _size_of(struct) for struct in (Connection, *structs)}
        parts = " + ".join(f"`{struct.__name__}` {size}" for struct, size in sizes.items())
        rows.append((name, f"{parts} + {_ENTRIES} for its entries", str(sum(sizes.values()) + _ENTRIES), besides))
    return table(("parked as", "structs", "bytes", "besides"), rows)


def _size_of(struct: type) -> int:
    return struct.__basicsize__ + (_GC_HEAD if struct.__flags__ & _HAS_GC else 0)


def dependencies() -> str:
    """The dependencies, with the reason that pyproject.toml gives for each."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = [
        each for name, group in project["optional-dependencies"].items() if name not in _ONLY_HERE for each in group
    ]
    return _packages(project["dependencies"] + extras)


def development_dependencies() -> str:
    """The same for the packages that only `make check` and `make bench` need."""
    groups = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return _packages([each for name in _ONLY_HERE for each in groups[name]])


def _packages(wanted: list[str]) -> str:
    found = _DEPENDENCY.findall(PYPROJECT.read_text(encoding="utf-8"))
    reasons = {name + bound: reason for name, bound, reason in found}
    return table(("package", "why"), ((f"`{each}`", reasons[each]) for each in wanted))
