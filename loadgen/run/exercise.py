"""Whether an attack took place: a row proves something only if it did.

Owns: when enough clients came, and early enough; when a request counts as absent; and for which honest slow clients an
attack is too short. May not: judge the target.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from loadgen.cases import requests
from loadgen.clients.client import Client, Needs, Threat
from loadgen.clients.messages import GroupStatus
from loadgen.net.answers import ALL_WRITTEN, NOT_SERVED

#: The share of an attack's clients that must have reached the server.
LEAST_SHARE: Final = 0.95

#: The share of the attack for which they must have done so: an attack that is complete only in its last second shows
#: little of what it does to a server.
LEAST_OF_TIME: Final = 0.5

#: The share of answers that may say that the server does not offer what was asked for.
MOST_ABSENT: Final = 0.05

#: Statuses that blame the request, however little there is to do: all but timeout, too early and too many requests.
_MISTAKES: Final = frozenset(range(400, 500)) - {408, 425, 429}
_NOT_SERVED: Final = NOT_SERVED | {f"answered {status}" for status in _MISTAKES} | {"forbidden", "unauthenticated"}

#: How a target fails all alike: by statuses and close codes that blame itself, or by ending the connection.
_FAILED: Final = re.compile(
    r"answered (408|425|429|5(?!01)\d\d)|close 10(00|01|05|11|12|13)( .*)?|closed|reset"
    r"|broken pipe|connection (reset by peer|refused)"
)

_NAME_A_LONG_PAGE: Final = "name a page that exceeds the kernel's buffers (--victim 'GET /path', --path)"
_NAME_A_PAGE: Final = "name a page that is there (--victim 'GET /path', --path), and what it needs (--header)"
_NAME_IT: Final = "name a path that is there, and what it needs (--path, --ws-path, --request, --body, --header)"

Numbers = Mapping[type[Client], int]


def unmet(persona: type[Client], needs: frozenset[Needs], *, tls: bool = False) -> str:
    """Why a persona cannot be played at this server; empty if it can."""
    if persona.needs in needs:
        lacks_tls = persona.needs_tls and not tls
        return f"not exercised: {persona.name} needs TLS: play it at an https:// URL" if lacks_tls else ""
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
    answer = "was not answered" if status is None else f"was answered {status}"
    return kept, [
        f"not exercised: {each.name} beside the attack: GET {answer}, and it needs a page" for each in need_page
    ]


def fault_of_page(path: str, statuses: Collection[int | None]) -> str:
    """Why victims that fetch this page would all fail, attacked or not; empty if they would not."""
    if set(statuses) - _MISTAKES:
        return ""
    answers = " and ".join(sorted(set(map(str, statuses))))
    return f"GET {path} was answered {answers} before anything else, and the victims need a page: {_NAME_A_PAGE}"


def has_failed(reasons: Iterable[str]) -> bool:
    """Whether a target that serves nothing says that it cannot, or ends connections: it may only speak something else,
    take long, or not know what it is asked for."""
    return any(map(_FAILED.fullmatch, reasons))


def nothing_served(what: str, errors: Mapping[str, int], acknowledged: int) -> str:
    """Why a load measured nothing; empty if a request was served, or refused for another reason than what it asked."""
    if acknowledged or not errors or errors.keys() - _NOT_SERVED:
        return ""
    answers = ", ".join(f"{answer}: {number:,}" for answer, number in sorted(errors.items()))
    return f"nothing was measured, as no {what} was served: {answers}; {_NAME_IT}"


def whole_cycles(neighbours: Numbers, seconds: float) -> tuple[Numbers, list[str]]:
    """The neighbours whose cycle fits into this many seconds, and why the others are left out."""
    kept = {persona: number for persona, number in neighbours.items() if persona.cycle_seconds <= seconds}
    short = [f"{each.name} {each.cycle_seconds:g} s" for each in neighbours if each not in kept]
    if not short:
        return kept, []
    return kept, [f"not exercised: collateral of {', '.join(short)}: {seconds:g} s are too short for a whole cycle"]


class Standing:
    """For how much of the attack enough of the clients that were due had come.

    What they do then is up to their persona: a crowd that is ended comes back, and so does a flood.
    """

    def __init__(self) -> None:
        self._due: defaultdict[tuple[str, str], float] = defaultdict(float)  # seconds, by group and persona
        self._stood: defaultdict[tuple[str, str], float] = defaultdict(float)

    def look(self, groups: Iterable[GroupStatus], seconds: float) -> None:
        """Count the seconds since the last look, as the groups stand now."""
        for each in groups:
            if each.due:
                self._due[each.group, each.persona] += seconds
                if each.came >= LEAST_SHARE * each.due:
                    self._stood[each.group, each.persona] += seconds

    def share(self, group: GroupStatus) -> float:
        due = self._due[group.group, group.persona]
        return self._stood[group.group, group.persona] / due if due else 0.0


def not_exercised(groups: Iterable[GroupStatus], personas: Mapping[str, type[Client]], standing: Standing) -> list[str]:
    """The reasons why the attack proves nothing, one for each of its personas that was not exercised."""
    found = []
    for group in groups:
        persona = personas[group.persona]
        sent_nothing = "" if group.sent_bytes or persona.silent else "it sent nothing"
        reason = _too_few(group) or _absent(group, persona) or _unnoticed(group) or sent_nothing
        if reason := reason or _too_late(group, standing):
            found.append(f"not exercised: {group.persona}: {reason}")
    return found


def _too_few(group: GroupStatus) -> str:
    if group.came >= LEAST_SHARE * group.wanted:
        return ""
    why = Counter(group.failed) + Counter(group.refused)
    reasons = [f"{reason}: {number:,}" for reason, number in why.most_common(2)]
    most = f" ({', '.join(reasons or ['the others were not yet let in: a longer attack (--duration) would tell'])})"
    return f"only {group.came:,} of {group.wanted:,} came{most}"


def _too_late(group: GroupStatus, standing: Standing) -> str:
    share = standing.share(group)
    if share >= LEAST_OF_TIME:
        return ""
    return f"they had come for only {100 * share:.0f}% of the attack: a longer one (--duration) would tell"


def _unnoticed(group: GroupStatus) -> str:
    """Why the server waited for no client that does not read, or an empty text."""
    written, attempts = group.answers.get(ALL_WRITTEN, 0), max(group.opened, 1)
    if 2 * written <= attempts:
        return ""
    return f"the server had written all answers to {written:,} of {attempts:,} and waited for none: {_NAME_A_LONG_PAGE}"


def _absent(group: GroupStatus, persona: type[Client]) -> str:
    if persona.threat is Threat.MALFORMED:  # many of these ask for what cannot exist
        cases = requests.unseen(group.answers)
        return (
            cases
            and "whether these are refused was not seen, as what they ask for is not there, or takes no body"
            f" ({cases}); {_NAME_IT}"
        )
    unserved = {answer: number for answer, number in group.answers.items() if answer in NOT_SERVED}
    attempts = max(group.opened, 1)
    if persona.forged or sum(unserved.values()) <= MOST_ABSENT * attempts:
        return ""
    answers = ", ".join(sorted(unserved))
    return f"{sum(unserved.values()):,} of {attempts:,} requests were not served ({answers}); {_NAME_IT}"
