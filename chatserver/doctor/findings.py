"""Conclusions from the facts, with advice.

Owns: the rules and their wording. May not: query anything; the same facts always give the same findings.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from chatserver.doctor.facts import Delivery, Finding, Node, Severity, Trouble

#: Milliseconds by which clocks may differ: etcd warns at 1 s, CockroachDB stops at 0.5 s.
CLOCK_DIFFERENCE = 1_000.0
#: Milliseconds for a message to reach another node above which something is wrong: a hint takes a few, and a node
#: without hints reads the log each second.
SLOW = 250.0

#: The finding about a node in trouble, and the advice.
_TROUBLES = {
    Trouble.UNREACHABLE: (
        "cannot be reached",
        (
            "see that it runs at this address, and give that of its proxy if it has --proxy-protocol; over https its "
            "certificate must be valid, for this host, and trusted here (SSL_CERT_FILE)"
        ),
    ),
    Trouble.FOREIGN: (
        "is not a chatserver", "give the URL under which the page of the chat opens; a proxy must pass on all paths"
    ),
    Trouble.NOT_READY: (
        "is not ready", "its own log says why; it becomes ready as soon as what it waits for is available"
    ),
    Trouble.MISDIRECTED: ("has other names", "give a URL with a name that its --allow-host has"),
    Trouble.REFUSED: (
        "does not let the doctor in",
        "give --token with a token that may read and write in --room, or a room in which everybody may",
    ),
    Trouble.NO_WEBSOCKET: ("accepts no WebSocket", "a proxy in front must pass on the fields Upgrade and Connection"),
    Trouble.LIMITED: (
        "allows no message now", "run the doctor again after that time; --publish-rate is the limit of its user"
    ),
    Trouble.UNAVAILABLE: (
        "fails",
        (
            "its log says why: `publish_failed` if its disk is full or hangs, `refused` if it holds as many "
            "connections as --max-connections allows, or --per-ip allows this machine"
        ),
    ),
}  # fmt: skip


def conclude(nodes: Sequence[Node], deliveries: Sequence[Delivery]) -> list[Finding]:
    """All findings, faults first."""
    troubled = {node.url for node in nodes if node.trouble is not None}
    received = [each for each in deliveries if each.receiver not in troubled]
    ready = [node for node in nodes if node.answer_ms is not None]
    found = [
        *_troubles(nodes), *_differences(ready), *_shards(ready), *_clocks(nodes), *_missing(received),
        *_presence(nodes, received),
    ]  # fmt: skip
    return sorted(found, key=lambda finding: finding.severity is not Severity.FAULT)


def _troubles(nodes: Sequence[Node]) -> Iterator[Finding]:
    for node in nodes:
        if node.trouble is not None:
            what, advice = _TROUBLES[node.trouble]
            yield _fault([node], f"{node.url} {what}: {node.words}", advice)


def _differences(known: Sequence[Node]) -> Iterator[Finding]:
    """Differences in what the nodes of one chat must have in common, the log above all."""
    if len(engines := _by(known, lambda node: node.log)) > 1:
        yield _fault(
            known, f"the nodes have different kinds of log: {_listed(engines)}",
            "start all of them with the same --log; for several machines that is postgresql://...",
        )  # fmt: skip
    elif len(epochs := _by(known, lambda node: node.epoch)) > 1:
        yield _fault(
            known, f"the nodes have different logs, of the epochs {_listed(epochs)}: they are not one chat",
            "start all of them with the same --log. If they have it, the database was replaced or a standby promoted "
            "while they ran: restart the nodes that began before that",
        )  # fmt: skip
    if len(versions := _by(known, lambda node: node.version)) > 1:
        yield _warning(
            known, f"the nodes have different versions: {_listed(versions)}",
            "this is normal only during a rolling update; otherwise update all of them to the newest",
        )  # fmt: skip


def _shards(ready: Sequence[Node]) -> Iterator[Finding]:
    if len(ready) > 1 and not any(node.shards for node in ready):
        yield _warning(
            ready, "the nodes share no presence and no rate limits: each knows only its own users",
            "start all of them with the same --shared valkey://HOST:PORT",
        )  # fmt: skip
    elif len(counts := _by(ready, lambda node: f"{node.shards.of} shards" if node.shards else "none")) > 1:
        yield _fault(
            ready, f"the nodes have different --shared: {_listed(counts)}",
            "give all of them the same list; the order does not matter",
        )  # fmt: skip
    for node in ready:
        if node.shards is not None and node.shards.reachable < node.shards.of:
            yield _fault(
                [node], f"{node.url} reaches {node.shards.reachable} of {node.shards.of} shards of --shared",
                "check that Valkey runs there and can be reached from this node; the node's own log names the shard "
                "(`shard_lost`). Nothing is lost meanwhile, and presence is incomplete",
            )  # fmt: skip


def _clocks(nodes: Sequence[Node]) -> Iterator[Finding]:
    """Compare the nodes with each other first, since a wrong clock on this machine does no harm."""
    advice = "let NTP keep the clocks (chrony, systemd-timesyncd): sign-ins end at the wrong time meanwhile"
    clocks = [(node.clock_ms, node) for node in nodes if node.clock_ms is not None]
    if not clocks:
        return
    (low, behind), (high, ahead) = min(clocks, key=itemgetter(0)), max(clocks, key=itemgetter(0))
    sure = high - low - ahead.clock_error_ms - behind.clock_error_ms
    if sure > CLOCK_DIFFERENCE:
        yield _fault(
            [ahead, behind], f"the clock of {ahead.url} is {span(high - low)} ahead of that of {behind.url}", advice
        )
    elif min(abs(high) - ahead.clock_error_ms, abs(low) - behind.clock_error_ms) > CLOCK_DIFFERENCE:
        side = "ahead of" if low > 0 else "behind"
        one = "the clock of the node is" if len(clocks) == 1 else "the clocks of all nodes are"
        yield _warning(
            [ahead], f"{one} {span(abs(low))} {side} this machine's", f"see which of them is wrong; {advice}"
        )
    for node in nodes:
        if node.clock_ms is None or node.messages_clock_ms is None or sure > CLOCK_DIFFERENCE:
            continue
        off = node.messages_clock_ms - node.clock_ms
        if abs(off) - node.clock_error_ms - (node.publish_ms or 0.0) > CLOCK_DIFFERENCE:
            side = "ahead of" if off > 0 else "behind"
            if off > 0 and node.log != "postgresql":  # the node's own clock stamps them
                yield _warning(
                    [node], f"messages in this room get times that are {span(off)} ahead of the clock of {node.url}",
                    "the room was written while that clock was ahead, and keeps the later time until it comes: "
                    "no harm if it is right now",
                )  # fmt: skip
                return
            yield _fault(
                [node], f"messages get times that are {span(abs(off))} {side} the clock of {node.url}",
                "PostgreSQL stamps them by the clock of its own machine: let NTP keep that one too",
            )  # fmt: skip
            return


def _missing(deliveries: Sequence[Delivery]) -> Iterator[Finding]:
    for each in deliveries:
        if not each.attempted:
            continue
        pair, where = (each.sender, each.receiver), f"what {each.sender} acknowledges"
        if not each.readable:
            yield Finding(
                Severity.FAULT, pair, f"{where} cannot be read at {each.receiver}",
                "they report the same epoch but have different data: one of them has a copy of the log (a restored "
                "backup, a copied file). Give both the same --log, and the copy another epoch if it is to stay in use",
            )  # fmt: skip
        elif each.pushed_ms is None:
            yield Finding(
                Severity.FAULT, pair, f"{where} can be read at {each.receiver}, and is not pushed to WebSockets there",
                "the receiver is stuck or overloaded: look at its log, at chatserver_loop_lag_seconds and at "
                "chatserver_faults_total in its /metrics; a restart of it helps",
            )  # fmt: skip
        elif each.sender != each.receiver and each.pushed_ms > SLOW:
            yield Finding(
                Severity.WARNING, pair, f"{where} comes to {each.receiver} after {span(each.pushed_ms)}",
                "either a node is overloaded, or hints are lost, so that it finds messages only by its look each "
                "second: a pooler in front of PostgreSQL must pool sessions, since LISTEN needs one",
            )  # fmt: skip


def _presence(nodes: Sequence[Node], deliveries: Sequence[Delivery]) -> Iterator[Finding]:
    for node in nodes:
        if node.only_room:
            yield _warning(
                [node], f"the lists of members at {node.url} are not examined: {node.only_room}",
                "that needs a second room, whose name begins with that of --room: a token for it, or a limit above 1",
            )  # fmt: skip
    for each in deliveries:
        if each.present is False:
            yield Finding(
                Severity.FAULT, (each.sender, each.receiver),
                f"a member at {each.sender} is not in the list of members at {each.receiver}",
                "both must have the same --shared, with the same servers in it: see the hosts and ports of both",
            )  # fmt: skip


def span(ms: float) -> str:
    """A duration for people."""
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"


def _by(nodes: Sequence[Node], what: Callable[[Node], str]) -> dict[str, list[str]]:
    """The nodes by a property, without those that do not report it."""
    by_value: dict[str, list[str]] = {}
    for node in nodes:
        if what(node):
            by_value.setdefault(what(node), []).append(node.url)
    return by_value


def _listed(by_value: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} at {', '.join(urls)}" for value, urls in by_value.items())


def _fault(nodes: Sequence[Node], what: str, advice: str) -> Finding:
    return Finding(Severity.FAULT, tuple(node.url for node in nodes), what, advice)


def _warning(nodes: Sequence[Node], what: str, advice: str) -> Finding:
    return Finding(Severity.WARNING, tuple(node.url for node in nodes), what, advice)
