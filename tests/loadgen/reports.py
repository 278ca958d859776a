"""Reports as commands make them, made up but plausible, for the tests of what draws them.

Owns: one builder for each kind of report; each is the same in every run. `HOSTILE` is what a malicious server or a
careless user could get into any text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from loadgen import figures
from loadgen.latency import Spread
from loadgen.report import CohortRow, Outcome, PhaseRow, Report, Sample, Table, verdict

HOSTILE = "</title></style><script>alert('x')</script>\"'&<img src=x onerror=alert(1)>\x1b[31m\x00\u202eevil"

MEANINGS = figures.meanings(figures.ALL)

GROUPS = ("WebSocket round trip", "long-poll", "event stream")
SLOW = ("curl", "office", "phone-2g", "sleepy-tab", "slow-typist", "tunnel")

#: Durations behind each set of percentiles.
RECORDED = 200

#: When attackers are thrown out, in seconds after they connected.
DEADLINE = 10.0


def spread(random: Random, count: int, median_ms: float, *, tail: float = 0.4) -> Spread:
    """Percentiles of so many."""
    found = sorted(median_ms * math.exp(abs(random.gauss(0, tail))) for _ in range(RECORDED))
    return _spread(found, count)


def _spread(ascending: Sequence[float], count: int) -> Spread:
    p50, p90, p99, p999, most = (
        round(ascending[min(int(len(ascending) * share), len(ascending) - 1)], 3)
        for share in (0.5, 0.9, 0.99, 0.999, 1)
    )
    return Spread(count=count, p50_ms=p50, p90_ms=p90, p99_ms=p99, p999_ms=p999, max_ms=most)


def cohort(persona: str, wanted: int, **changes: object) -> CohortRow:
    usual: dict[str, object] = {
        "persona": persona,
        "honest": False,
        "slow": False,
        "wanted": wanted,
        "held": wanted,
        "peak": wanted,
        "opened": wanted,
        "left": 0,
        "refused": {},
        "failed": {},
        "ended": {},
        "answers": {},
        "lifetime": Spread(count=0, p50_ms=None, p90_ms=None, p99_ms=None, p999_ms=None, max_ms=None),
        "kills": [],
        "sent_bytes": wanted * 270,
        "received_bytes": 0,
        "deliveries": 0,
    }
    return CohortRow(**(usual | changes))  # type: ignore[arg-type]


def _killed(persona: str, wanted: int, random: Random, *, deadline: float, reason: str) -> CohortRow:
    ages = sorted(deadline + abs(random.gauss(0, 0.06)) for _ in range(RECORDED))
    killed = wanted + wanted // 3
    buckets = Counter(math.ceil(age * 2) / 2 for age in ages)
    return cohort(
        persona,
        wanted,
        opened=2 * wanted,
        held=wanted - wanted // 3,
        refused={"429": wanted // 40} if wanted > 100 else {},
        ended={reason: killed},
        answers={reason: killed, "answered 100": 5} if reason.isdecimal() else {},
        lifetime=_spread([age * 1000 for age in ages], killed),
        kills=[(age, count * killed // RECORDED) for age, count in sorted(buckets.items())],
        received_bytes=killed * 180,
    )


def _neighbours(hurt: int = 0) -> list[CohortRow]:
    return [
        cohort(
            name,
            10,
            honest=True,
            slow=True,
            ended={"closed by the server after 41 s": hurt} if hurt and name == "phone-2g" else {},
            held=10 - hurt if name == "phone-2g" else 10,
            received_bytes=48_000,
            deliveries=290,
        )
        for name in SLOW
    ]


def _attack_samples(
    kinds: Sequence[str], clients: int, random: Random, spans: tuple[int, int, int], *, stall: bool
) -> Iterator[Sample]:
    baseline, attack, _ = spans
    each = clients // len(kinds)
    for second in range(sum(spans) + 1):
        phase = "baseline" if second < baseline else "attack" if second < baseline + attack else "recovery"
        into = second - baseline
        during = phase == "attack"
        held = round(each * min(1.0, (into + 1) / 2.5) * (0.97 + 0.03 * random.random())) if during else 0
        killed = round(each * max(0.0, min(into, attack) - DEADLINE) / 7.0)
        p50 = 1.1 * (1 + 0.2 * random.random()) * (1.3 if during else 1)
        p99 = p50 * (1.5 + random.random() + (5 * random.random() if during else 0))
        stalled = stall and during and into % 5 == 4
        yield Sample(
            seconds=second + 0.01,
            phase=phase,
            held={kind: held * (10 - at) // 10 for at, kind in enumerate(kinds)} | dict.fromkeys(SLOW, 10),
            ended={kind: killed * (10 - 3 * at) // 10 for at, kind in enumerate(kinds)} | dict.fromkeys(SLOW, 0),
            refused=dict.fromkeys(kinds[:1], killed // 20) | dict.fromkeys(SLOW, 0),
            succeeded=497 if not stalled else 230,
            failed=7 if stalled else 0,
            p50_ms=round(p50, 3),
            p99_ms=round(p99 if not stalled else 512.4, 3),
            max_ms=round(p99 * 1.6 if not stalled else 740.2, 3),
            server_rss_bytes=41_000_000 + 260 * held * len(kinds) + (1_800_000 if second > baseline else 0),
            server_cpu_percent=round(3 + (22 * random.random() + 8 if during else 0), 1),
            server_descriptors=72 + held * len(kinds),
        )


def attack(
    *kinds: str,
    clients: int = 8000,
    outcome: Outcome = Outcome.HELD,
    spans: tuple[int, int, int] = (5, 20, 5),
    seed: int = 7,
) -> Report:
    """An attack with everything measured."""
    kinds = kinds or ("slow-head", "idle-connect")
    random = Random(seed)
    fell_short = outcome is Outcome.FELL_SHORT
    medians = {"baseline": 1.1, "attack": 1.5, "recovery": 1.15}
    phases = [
        PhaseRow(
            name=phase,
            what=group,
            seconds=float(seconds),
            succeeded=160 * seconds,
            failed={"no answer within 5 s": 21} if fell_short and phase == "attack" and number == 0 else {},
            spread=spread(random, 160 * seconds, medians[phase] * (1 + number), tail=1.4 if phase == "attack" else 0.3),
            server_cpu_percent={"baseline": 3.1, "attack": 18.4, "recovery": 3.4}[phase],
            server_pss_bytes=int(41e6 if phase == "baseline" else 43.4e6),
        )
        for number, group in enumerate(GROUPS)
        for phase, seconds in zip(medians, spans, strict=True)
    ]
    attackers = [
        _killed(kind, clients // len(kinds), random, deadline=DEADLINE, reason="408" if "head" in kind else "closed")
        for kind in kinds
    ]
    reasons = ["p99_over_bar_ms is 483 (p99_over_bar_ms>0)", "success_percent is 99.78 (success_percent<100)"]
    found: dict[str, float | None] = {
        "success_percent": 99.78 if fell_short else 100.0,
        "baseline_p50_ms": 1.12,
        "baseline_p99_ms": 1.84,
        "attack_p50_ms": 1.61,
        "attack_p99_ms": 503.2 if fell_short else 9.127,
        "attack_p999_ms": 712.0 if fell_short else 22.4,
        "attack_max_ms": 740.2 if fell_short else 31.5,
        "recovery_p50_ms": 1.14,
        "recovery_p99_ms": 1.97,
        "p99_ratio": 273.5 if fell_short else 4.961,
        "p99_over_bar_ms": 483.0 if fell_short else -7.713,
        "first_failure_s": 4.2 if fell_short else None,
        "recover_s": 0.4,
        "neighbours": 60.0,
        "collateral": 2.0 if fell_short else 0.0,
        "attackers_asked": float(clients),
        "attackers_came": float(clients),
        "attempts_per_s": clients / 10,
        "attacker_bytes_per_s": clients * 2.0,
        "newcomers_success_percent": 100.0,
        "attackers_peak": float(clients),
        "attackers_refused": float(sum(sum(row.refused.values()) for row in attackers)),
        "attackers_killed": float(sum(sum(row.ended.values()) for row in attackers)),
        "kill_p50_s": 10.06,
        "kill_max_s": 10.31,
        "server_bytes_grown": 271.0 * clients,
        "server_bytes_per_attacker": 271.0,
        "server_bytes_left": 1_843_200.0,
        "server_growth_bytes_s": 204_800.0,
        "server_cpu_us_per_attacker_s": 18.4,
        "server_cpu_percent": 18.4,
        "bytes_cost_ratio": 0.66,
        "server_cpu_cost_ratio": 0.421,
        "baseline_steal_percent": 0.42,
        "lag_p99_ms": 1.9,
        "lag_max_ms": 12.4,
        "own_bytes_per_client": 131.0,
        "own_cpu_percent": 38.2,
        "steal_percent": 2.07,
        "connects_per_s": 4988.0,
    }
    return Report(
        command="attack",
        arguments=(
            f"loadgen attack http://127.0.0.1:8000 --kind {','.join(kinds)} --clients {clients}"
            f" --duration {spans[1]} --server-pid 4242 --seed {seed}"
        ),
        target="http://127.0.0.1:8000",
        seed=seed,
        started="2026-11-20T12:00:00Z",
        seconds=sum(spans) + 3.2,
        verdict=verdict(outcome, reasons if fell_short else []),
        figures=found,
        meanings=MEANINGS,
        phases=phases,
        cohorts=attackers + _neighbours(2 if fell_short else 0),
        timeline=list(_attack_samples(kinds, clients, random, spans, stall=fell_short)),
        metrics={
            'chatserver_closed_total{reason="head-deadline"}': 5333.0,
            'chatserver_closed_total{reason="peer-closed"}': 112.0,
            "chatserver_messages_total": 15_230.0,
            'chatserver_refused_total{reason="rate"}': 0.0,
        },
    )


def run() -> Report:
    """Honest load; nothing known of the server's inside."""
    random = Random(3)
    acks, echoes = spread(random, 6000, 1.8), spread(random, 6000, 2.1, tail=0.6)
    timeline = [
        Sample(
            seconds=float(second),
            phase="opening" if second < 3 else "steady",
            held={
                "idle": min(4000, 1500 * second),
                "poll": min(750, 280 * second),
                "chat": min(250, 100 * second),
            },
            ended={"idle": 0, "poll": 0, "chat": 0},
            refused={"idle": 0, "poll": 0, "chat": 0},
            succeeded=200 if second > 3 else 0,
            p50_ms=1.9 if second > 3 else None,
            p99_ms=4.0 + random.random() if second > 3 else None,
            max_ms=7.0 + 4 * random.random() if second > 3 else None,
        )
        for second in range(34)
    ]
    return Report(
        command="run",
        arguments="loadgen run http://127.0.0.1:8000 --clients 5000 --mix idle=80,poll=15,chat=5 --rate 200 --seed 3",
        target="http://127.0.0.1:8000",
        seed=3,
        started="2026-11-20T12:05:00Z",
        seconds=36.1,
        verdict=verdict(Outcome.HELD, []),
        figures={
            "held": 5000.0,
            "refused": 0.0,
            "failed": 0.0,
            "ended": 0.0,
            "ack_p50_ms": 1.94,
            "ack_p99_ms": 5.1,
            "ack_max_ms": 10.8,
            "unacknowledged": 0.0,
            "messages_per_s": 200.0,
            "deliveries_per_s": 10_020.0,
            "lag_p99_ms": 0.8,
            "connects_per_s": 6148.0,
            "server_bytes_per_connection": None,
        },
        meanings=MEANINGS,
        phases=[
            PhaseRow(name="steady", what=what, seconds=30.0, succeeded=6000, failed={}, spread=found)
            for what, found in (("acknowledged", acks), ("own message back", echoes))
        ],
        cohorts=[
            cohort("idle", 4000, honest=True, deliveries=240_000),
            cohort("poll", 750, honest=True, deliveries=45_000),
            cohort("chat", 250, honest=True, deliveries=15_600, sent_bytes=1_200_000),
        ],
        timeline=timeline,
    )


def scorecard(count: int = 6) -> Report:
    """Attacks one after the other; the third falls short."""
    kinds = (
        "slow-head",
        "idle-connect",
        "slow-read",
        "ping-flood",
        "reconnect-storm",
        "empty-fragments",
        "vanish",
        "drip-head",
    )
    parts = [
        attack(
            kind,
            clients=2000,
            outcome=Outcome.FELL_SHORT if number == 2 else Outcome.HELD,
            spans=(3, 12, 3),
            seed=number,
        )
        for number, kind in enumerate(kinds[:count])
    ]
    for part, kind in zip(parts, kinds, strict=False):
        part.command = kind
        part.figures |= {
            "floor_baseline_p99_ms": 1.9, "floor_p50_ms": 1.31, "floor_p99_ms": 8.0, "floor_p99_ratio": 1.141,
        }  # fmt: skip
    return Report(
        command="scorecard",
        arguments="loadgen scorecard http://127.0.0.1:8000 --seed 5",
        target="http://127.0.0.1:8000",
        seed=5,
        started="2026-11-20T12:10:00Z",
        seconds=21.4 * count,
        verdict=verdict(Outcome.FELL_SHORT, ["slow-read: p99_over_bar_ms is 483 (p99_over_bar_ms>0)"]),
        figures={"attacks": float(count), "held": count - 1.0, "fell_short": 1.0, "invalid": 0.0},
        meanings={"attacks": "attacks that were played", "held": "of these, the target held"},
        tables=[
            Table(
                title="not played",
                columns=["attack", "why"],
                rows=[["slow-tls", "the target speaks no TLS"], ["join-many", "the target does not speak chat.v1"]],
            )
        ],
        parts=parts,
    )


def comparison() -> Report:
    """One scenario against two servers, twice; it judges nobody."""
    parts = []
    for number, name in enumerate(("ours", "threaded") * 2):
        outcome = Outcome.FELL_SHORT if name == "threaded" else Outcome.HELD
        parts.append(attack("slow-head", clients=200, outcome=outcome, spans=(2, 6, 2), seed=number))
        parts[-1].command, parts[-1].target = "slow-head", name
    return Report(
        command="compare",
        arguments="loadgen compare ours threaded --seed 9",
        target="ours, threaded",
        seed=9,
        started="2026-11-20T12:15:00Z",
        seconds=52.0,
        verdict=verdict(Outcome.HELD, ["4 measurements of 2 servers"]),
        tables=[
            Table(
                title="survival of slow attacks",
                columns=["server", "slow-head", "ratio"],
                rows=[["ours", "9.1 (8.8-9.4) ms", ""], ["threaded", "503 (480-520) ms", "55.3 (51.1-58.2)"]],
                notes=["median of 2 rounds, the least and the most in brackets"],
            )
        ],
        parts=parts,
    )


def fingerprint() -> Report:
    """Deadlines found from outside: no phases, no personas."""
    return Report(
        command="fingerprint",
        arguments="loadgen fingerprint http://127.0.0.1:8000",
        target="http://127.0.0.1:8000",
        seed=0,
        started="2026-11-20T12:20:00Z",
        seconds=61.0,
        verdict=verdict(Outcome.FELL_SHORT, ["missing: header size (none seen up to 1 MiB)"]),
        figures={"head_deadline_s": 10.04, "head_bytes": 16_384.0, "body_deadline_s": None, "limits_good": 3.0},
        meanings={"head_deadline_s": "until a request head that comes byte by byte ends the connection"},
        tables=[
            Table(
                title="limits",
                columns=["probe", "found", "mark", "good practice", "how it ended"],
                rows=[
                    ["idle connect", "10.05 s", "good", "5 to 20 s", "closed"],
                    ["head", "10.04 s", "good", "5 to 20 s, in total", "408"],
                    ["body", "none seen within 60 s", "lenient", "20 s or a least rate", ""],
                    ["header size", "none seen up to 1 MiB", "missing", "8 to 32 KiB", "200"],
                    ["frame size", "65,536 B", "good", "some limit", "1009"],
                ],
                notes=["each probe ran three times; the median is shown"],
            )
        ],
    )


def interrupted() -> Report:
    """Ctrl-C before anything happened."""
    return Report(
        command="attack",
        arguments="",
        target="http://127.0.0.1:8000",
        seed=1,
        started="2026-11-20T12:30:00Z",
        seconds=0.4,
        verdict=verdict(Outcome.INTERRUPTED, ["stopped before the end; the figures cover what was done"]),
        figures={"attack_p99_ms": None, "held": None},
        cohorts=[cohort("slow-head", 8000, held=0, peak=0, opened=0, sent_bytes=0)],
        timeline=[Sample(seconds=0.0, phase="start", held={}, ended={}, refused={})],
    )


def hostile() -> Report:
    """An attack whose every text is out to break the page."""
    report = attack("slow-head", clients=20, spans=(1, 2, 1))
    report.target = report.arguments = report.started = HOSTILE
    report.verdict = verdict(Outcome.FELL_SHORT, [HOSTILE])
    report.figures = {HOSTILE: 1.0, "attack_p99_ms": math.inf, "p99_ratio": math.nan}
    report.meanings = {HOSTILE: HOSTILE}
    report.metrics = {HOSTILE: 1.0}
    report.tables = [Table(title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE]], notes=[HOSTILE])]
    report.cohorts = [
        cohort(HOSTILE, 3, refused={HOSTILE: 1}, ended={HOSTILE: 2}, kills=[(1.0, 2)]),
        cohort("phone-2g", 3, honest=True, slow=True),
    ]
    report.phases = [
        PhaseRow(name=HOSTILE, what=HOSTILE, seconds=1.0, succeeded=1, failed={HOSTILE: 1}, spread=each.spread)
        for each in report.phases[:1]
    ]
    report.timeline = [
        Sample(seconds=float(at), phase=HOSTILE, held={HOSTILE: at}, ended={HOSTILE: at}, refused={}, p99_ms=1.0)
        for at in range(4)
    ]
    report.parts = [attack("slow-head", clients=20, spans=(1, 2, 1))]
    report.parts[0].target = HOSTILE
    return report


KINDS = {
    "attack": attack,
    "fell short": lambda: attack(outcome=Outcome.FELL_SHORT),
    "run": run,
    "scorecard": scorecard,
    "comparison": comparison,
    "fingerprint": fingerprint,
    "interrupted": interrupted,
    "hostile": hostile,
}
