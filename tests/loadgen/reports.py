"""Reports as commands make them, made up but plausible, for the tests of what draws them.

Owns: one builder for each kind of report; each is the same in every run. `HOSTILE` is what a malicious server or a
careless user could get into any text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from loadgen.report import figures
from loadgen.report.latency import Spread
from loadgen.report.schema import CohortRow, Outcome, PhaseRow, Report, Sample, Table, verdict

HOSTILE = "</title></style><script>alert('x')</script>\"'&<img src=x onerror=alert(1)>\x1b[31m\x00\u202eevil"

MEANINGS = figures.meanings(figures.ALL)

GROUPS = ("WebSocket round trip", "long-poll", "event stream")
SLOW = ("curl", "office", "phone-2g", "sleepy-tab", "slow-typist", "tunnel")

#: When attackers are thrown out, in seconds after they connected.
DEADLINE = 10.0

#: The medians of the phases of an attack, and what the server used in them.
PHASES = {"baseline": (1.1, 3.1, 41e6), "attack": (1.5, 18.4, 43.4e6), "recovery": (1.15, 3.4, 43.4e6)}


def spread(count: int, median_ms: float, *, tail: float = 1.5) -> Spread:
    """Percentiles of so many, each further ones `tail` times the one before."""
    p50, p90, p99, p999, most = (round(median_ms * tail**step, 3) for step in range(5))
    return Spread(count=count, p50_ms=p50, p90_ms=p90, p99_ms=p99, p999_ms=p999, max_ms=most)


def cohort(persona: str, wanted: int, **changes: Any) -> CohortRow:
    nothing = Spread(count=0, p50_ms=None, p90_ms=None, p99_ms=None, p999_ms=None, max_ms=None)
    usual: dict[str, Any] = {
        **dict.fromkeys(("wanted", "held", "peak", "opened"), wanted),
        **dict.fromkeys(("left", "received_bytes", "deliveries"), 0),
        **{reasons: {} for reasons in ("refused", "failed", "ended", "answers")},
        "honest": False, "slow": False, "lifetime": nothing, "sent_bytes": wanted * 270,
    }  # fmt: skip
    return CohortRow(persona=persona, **(usual | changes))


def _report(command: str, outcome: Outcome, reasons: list[str], **more: Any) -> Report:
    usual: dict[str, Any] = {
        "arguments": f"loadgen {command} http://127.0.0.1:8000 --seed {more.get('seed', 0)}",
        "target": "http://127.0.0.1:8000", "seed": 0, "started": "2026-11-20T12:00:00Z", "seconds": 60.0,
    }  # fmt: skip
    return Report(command=command, verdict=verdict(outcome, reasons), **(usual | more))


def _killed(persona: str, wanted: int, reason: str) -> CohortRow:
    """A third of them were thrown out twice, all within half a second after the deadline."""
    killed = wanted + wanted // 3
    return cohort(
        persona, wanted, opened=2 * wanted, held=wanted - wanted // 3, ended={reason: killed},
        refused={"429": wanted // 40} if wanted > 100 else {},
        answers={reason: killed, "answered 100": 5} if reason.isdecimal() else {},
        lifetime=spread(killed, DEADLINE * 1000, tail=1.002), received_bytes=killed * 180,
    )  # fmt: skip


def _neighbours(hurt: int) -> list[CohortRow]:
    """Those of whom the server ended some were on a phone."""
    rows = [cohort(name, 10, honest=True, slow=True, received_bytes=48_000, deliveries=290) for name in SLOW]
    if hurt:
        ended = {"closed by the server after 41 s": hurt}
        rows[2] = cohort("phone-2g", 10, honest=True, slow=True, held=10 - hurt, ended=ended)
    return rows


def _attack_samples(
    kinds: Sequence[str], clients: int, spans: tuple[int, int, int], *, stall: bool
) -> Iterator[Sample]:
    baseline, attack, _ = spans
    each = clients // len(kinds)
    for second in range(sum(spans) + 1):
        phase = "baseline" if second < baseline else "attack" if second < baseline + attack else "recovery"
        into, during = second - baseline, phase == "attack"
        held = round(each * min(1.0, (into + 1) / 2.5)) if during else 0
        killed = round(each * max(0.0, min(into, attack) - DEADLINE) / 7.0)
        p50 = round((1.5 if during else 1.15) + second % 3 / 10, 3)
        stalled = stall and during and into % 5 == 4
        yield Sample(
            seconds=second + 0.01, phase=phase,
            held={kind: held * (10 - at) // 10 for at, kind in enumerate(kinds)} | dict.fromkeys(SLOW, 10),
            ended={kind: killed * (10 - 3 * at) // 10 for at, kind in enumerate(kinds)} | dict.fromkeys(SLOW, 0),
            refused=dict.fromkeys(kinds[:1], killed // 20) | dict.fromkeys(SLOW, 0),
            succeeded=230 if stalled else 497, failed=7 if stalled else 0,
            p50_ms=p50, p99_ms=512.4 if stalled else 2 * p50, max_ms=740.2 if stalled else 3 * p50,
            server_rss_bytes=41_000_000 + 260 * held * len(kinds) + (1_800_000 if second > baseline else 0),
            server_cpu_percent=18.4 if during else 3.1, server_descriptors=72 + held * len(kinds),
        )  # fmt: skip


def attack(
    *kinds: str,
    clients: int = 8000,
    outcome: Outcome = Outcome.HELD,
    spans: tuple[int, int, int] = (5, 20, 5),
    seed: int = 7,
) -> Report:
    kinds = kinds or ("slow-head", "idle-connect")
    short = outcome is Outcome.FELL_SHORT
    phases = [
        PhaseRow(
            name=phase, what=group, seconds=float(seconds), succeeded=160 * seconds,
            failed={"no answer within 5 s": 21} if short and phase == "attack" and number == 0 else {},
            spread=spread(160 * seconds, median * (1 + number), tail=2.5 if phase == "attack" else 1.4),
            server_cpu_percent=cpu, server_pss_bytes=int(size),
        )
        for number, group in enumerate(GROUPS)
        for (phase, (median, cpu, size)), seconds in zip(PHASES.items(), spans, strict=True)
    ]  # fmt: skip
    attackers = [_killed(kind, clients // len(kinds), "408" if "head" in kind else "closed") for kind in kinds]
    reasons = [
        "p99_over_bar_ms is 483 (p99_over_bar_ms>0)",
        "success_percent is 99.78 (success_percent<100)",
        "attack_failed is 7 (attack_failed>0)",
    ]
    found: dict[str, float | None] = {
        "success_percent": 99.78 if short else 100.0, "attack_failed": 7.0 if short else 0.0,
        "baseline_p50_ms": 1.12, "baseline_p99_ms": 1.84,
        "attack_p50_ms": 1.61, "attack_p99_ms": 503.2 if short else 9.127,
        "recovery_p50_ms": 1.14, "recovery_p99_ms": 1.97,
        "p99_ratio": 273.5 if short else 4.961, "p99_over_bar_ms": 483.0 if short else -7.713,
        "first_failure_s": 4.2 if short else None, "recover_s": 0.4,
        "neighbours": 60.0, "collateral": 2.0 if short else 0.0,
        "attackers_asked": float(clients), "attackers_came": float(clients),
        "attempts_per_s": clients / 10, "attacker_bytes_per_s": clients * 2.0, "newcomers_success_percent": 100.0,
        "attackers_peak": float(clients), "attackers_killed": float(sum(sum(row.ended.values()) for row in attackers)),
        "kill_p50_s": 10.06, "kill_max_s": 10.31,
        "server_bytes_grown": 271.0 * clients, "server_bytes_per_attacker": 271.0, "server_bytes_left": 1_843_200.0,
        "server_cpu_us_per_attacker_s": 18.4, "server_cpu_percent": 18.4,
        "baseline_steal_percent": 0.42, "steal_percent": 2.07, "lag_p99_ms": 1.9, "own_cpu_percent": 38.2,
    }  # fmt: skip
    return _report(
        "attack", outcome, reasons if short else [], seed=seed, seconds=sum(spans) + 3.2,
        arguments=f"loadgen attack http://127.0.0.1:8000 --kind {','.join(kinds)} --clients {clients} --seed {seed}",
        figures=found, meanings=MEANINGS, phases=phases, cohorts=attackers + _neighbours(2 if short else 0),
        timeline=list(_attack_samples(kinds, clients, spans, stall=short)),
    )  # fmt: skip


def run() -> Report:
    """Honest load; nothing known of the server's inside."""
    most = {"idle": 4000, "poll": 750, "chat": 250}
    nothing = dict.fromkeys(most, 0)
    timeline = [
        Sample(
            seconds=float(second), phase="opening" if second < 3 else "steady", ended=nothing, refused=nothing,
            held={name: min(number, second * 1500) for name, number in most.items()},
            **({"succeeded": 200, "p50_ms": 1.9, "p99_ms": 3.8, "max_ms": 7.6} if second > 3 else {}),  # type: ignore[arg-type]
        )
        for second in range(34)
    ]  # fmt: skip
    return _report(
        "run", Outcome.HELD, [], seed=3,
        figures={
            "held": 5000.0, "refused": 0.0, "failed": 0.0, "ended": 0.0, "ack_p99_ms": 5.1, "unacknowledged": 0.0,
            "messages_per_s": 200.0, "deliveries_per_s": 10_020.0, "lag_p99_ms": 0.8, "connects_per_s": 6148.0,
            "server_bytes_per_connection": None,
        },
        meanings=MEANINGS,
        phases=[
            PhaseRow(name="steady", what=what, seconds=30.0, succeeded=6000, failed={}, spread=spread(6000, 1.8))
            for what in ("acknowledged", "own message back")
        ],
        cohorts=[cohort(name, number, honest=True, deliveries=60 * number) for name, number in most.items()],
        timeline=timeline,
    )  # fmt: skip


def scorecard(count: int = 6) -> Report:
    """Attacks one after the other; the third falls short."""
    kinds = ("slow-head", "idle-connect", "slow-read", "ping-flood", "reconnect-storm", "empty-fragments")
    parts = []
    for number, kind in enumerate(kinds[:count]):
        outcome = Outcome.FELL_SHORT if number == 2 else Outcome.HELD
        part = attack(kind, clients=2000, outcome=outcome, spans=(3, 12, 3), seed=number)
        part.command = kind
        part.figures |= {"floor_baseline_p99_ms": 1.9, "floor_p99_ms": 8.0, "floor_p99_ratio": 1.141}
        parts.append(part)
    return _report(
        "scorecard", Outcome.FELL_SHORT, ["slow-read fell short: p99_over_bar_ms is 483 (p99_over_bar_ms>0)"],
        seed=5, parts=parts,
        figures={"attacks": float(count), "held": count - 1.0, "fell_short": 1.0, "invalid": 0.0},
        meanings={"attacks": "attacks that were played", "held": "of these, the target held"},
        tables=[Table(title="not played", columns=["attack", "why"], rows=[["slow-tls", "the target speaks no TLS"]])],
    )  # fmt: skip


def comparison() -> Report:
    """One scenario against two servers, twice; it judges nobody."""
    parts = []
    for number, name in enumerate(("ours", "threaded") * 2):
        outcome = Outcome.FELL_SHORT if name == "threaded" else Outcome.HELD
        parts.append(attack("slow-head", clients=200, outcome=outcome, spans=(2, 6, 2), seed=number))
        parts[-1].command, parts[-1].target = "slow-head", name
    rows = [["ours", "9.1 (8.8-9.4) ms", ""], ["threaded", "503 (480-520) ms", "55.3 (51.1-58.2)"]]
    notes = ["median of 2 rounds, the least and the most in brackets"]
    survival = Table(title="survival of slow attacks", columns=["server", "slow-head", "ratio"], rows=rows, notes=notes)
    return _report(
        "compare", Outcome.HELD, ["4 measurements of 2 servers"], target="ours, threaded", seed=9, tables=[survival],
        parts=parts,
    )  # fmt: skip


def fingerprint() -> Report:
    """Deadlines found from outside: no phases, no personas."""
    rows = [
        ["idle connect", "10.05 s", "good", "5 to 20 s", "closed"],
        ["body", "none seen within 60 s", "lenient", "20 s or a least rate", ""],
        ["header size", "none seen up to 1 MiB", "missing", "8 to 32 KiB", "200"],
    ]
    columns = ["probe", "found", "mark", "good practice", "how it ended"]
    return _report(
        "fingerprint", Outcome.FELL_SHORT, ["missing: header size (none seen up to 1 MiB)"],
        arguments="loadgen fingerprint http://127.0.0.1:8000",
        figures={"head_deadline_s": 10.04, "head_bytes": 16_384.0, "body_deadline_s": None, "limits_good": 3.0},
        meanings={"head_deadline_s": "until a request head that comes byte by byte ends the connection"},
        tables=[Table(title="limits of RFC 6455", columns=columns, rows=rows, notes=["the median of three is shown"])],
    )  # fmt: skip


def interrupted() -> Report:
    """Ctrl-C before anything happened."""
    return _report(
        "attack", Outcome.INTERRUPTED, ["stopped before the end; the figures cover what was done"], arguments="",
        seed=1, figures={"attack_p99_ms": None, "held": None},
        cohorts=[cohort("slow-head", 8000, held=0, peak=0, opened=0, sent_bytes=0)],
        timeline=[Sample(seconds=0.0, phase="start", held={}, ended={}, refused={})],
    )  # fmt: skip


def hostile() -> Report:
    """An attack whose every text is out to break the page."""
    report = attack("slow-head", clients=20, spans=(1, 2, 1))
    report.target = report.arguments = report.started = HOSTILE
    report.verdict = verdict(Outcome.FELL_SHORT, [HOSTILE])
    report.figures = {HOSTILE: 1.0, "attack_p99_ms": math.inf, "p99_ratio": math.nan}
    report.meanings = {HOSTILE: HOSTILE}
    report.tables = [Table(title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE]], notes=[HOSTILE])]
    report.cohorts = [
        cohort(HOSTILE, 3, refused={HOSTILE: 1}, ended={HOSTILE: 2}),
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
