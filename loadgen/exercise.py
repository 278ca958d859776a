"""Whether an attack took place: a row proves something only if it did.

Owns: when enough clients came, when a request counts as absent, and for which honest slow clients an attack is too
short. Pure: counts in, reasons out. May not: judge the target.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from loadgen.client import ABSENT_STATUSES, Client, Needs, Threat
from loadgen.messages import GroupStatus

#: The share of an attack's clients that must have reached the server.
LEAST_SHARE: Final = 0.95

#: The share of answers that may say that the server does not offer what was asked for.
MOST_ABSENT: Final = 0.05

Numbers = Mapping[type[Client], int]


def unmet(persona: type[Client], needs: frozenset[Needs]) -> str:
    """Why a persona cannot be played at this server; empty if it can."""
    if persona.needs in needs:
        return ""
    return (
        f"not exercised: {persona.name} needs {persona.needs.value}, and the victims show only"
        f" {' and '.join(sorted(need.value for need in needs))}"
    )


def without_a_page(neighbours: Numbers, status: int | None) -> tuple[Numbers, list[str]]:
    """The neighbours that can play at a server without a page at the path, and why the others cannot."""
    if status is not None and status < 400:
        return neighbours, []
    need_page = [persona for persona in neighbours if persona.needs is Needs.HTTP]
    kept = {persona: number for persona, number in neighbours.items() if persona not in need_page}
    told = "was not answered" if status is None else f"was answered {status}"
    return kept, [
        f"not exercised: {each.name} beside the attack: GET {told}, and it needs a page" for each in need_page
    ]


def whole_cycles(neighbours: Numbers, seconds: float) -> tuple[Numbers, list[str]]:
    """The neighbours whose cycle fits into so many seconds, and why the others are left out."""
    kept = {persona: number for persona, number in neighbours.items() if persona.cycle_seconds <= seconds}
    short = [f"{each.name} {each.cycle_seconds:g} s" for each in neighbours if each not in kept]
    if not short:
        return kept, []
    return kept, [f"not exercised: collateral of {', '.join(short)}: {seconds:g} s are too short (--fixed-duration)"]


def not_exercised(groups: Iterable[GroupStatus], personas: Mapping[str, type[Client]]) -> list[str]:
    """The reasons why the attack proves nothing, one for each of its personas that was not exercised."""
    found = []
    for group in groups:
        persona = personas[group.persona]
        reason = _too_few(group) or _absent(group, persona)
        if not reason and not group.sent_bytes and not persona.silent:
            reason = "it sent nothing"
        if reason:
            found.append(f"not exercised: {group.persona}: {reason}")
    return found


def _too_few(group: GroupStatus) -> str:
    if group.came >= LEAST_SHARE * group.wanted:
        return ""
    why = Counter(group.failed) + Counter(group.refused)
    told = [f"{reason}: {number:,}" for reason, number in why.most_common(2)]
    most = f" ({', '.join(told or ['the others were not yet let in: a longer attack (--duration) would tell'])})"
    return f"only {group.came:,} of {group.wanted:,} came{most}"


def _absent(group: GroupStatus, persona: type[Client]) -> str:
    """Why its requests were not served, or an empty text; many malformed requests ask for what cannot exist."""
    if persona.threat is Threat.MALFORMED:
        return ""
    told = sum(number for answer, number in group.answers.items() if answer in ABSENT_STATUSES)
    attempts = max(group.opened, 1)
    if told <= MOST_ABSENT * attempts:
        return ""
    statuses = ", ".join(sorted(answer for answer in group.answers if answer in ABSENT_STATUSES))
    how = "--path, --ws-path, --request 'POST /path'"
    return f"{told:,} of {attempts:,} requests met nothing ({statuses}); name a path that is there ({how})"
