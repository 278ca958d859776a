"""What may be written in flags that are more than a number or a word.

Owns: the little languages of `--mix`, `--kind` and `--rooms`, and the ranges of numbers. Every error names its flag.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Final, Literal

from loadgen.client import Client
from loadgen.personas import registry
from loadgen.target import UsageError

#: A run is a measurement, not a way of life.
MAX_SECONDS: Final = 3600.0

_ROOM: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

#: Members of one room, unless --rooms says otherwise: the size of a busy team.
CLIENTS_PER_ROOM: Final = 50


def names(text: str) -> list[str]:
    """Split at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def find_persona(name: str, flag: Literal["--mix", "--kind"], *, honest: bool) -> type[Client]:
    """Find a persona, or say which names come near."""
    known = {persona.name: persona for persona in registry().values() if persona.honest is honest}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
    raise UsageError(f"{flag}: there is no {name!r}; did you mean {' or '.join(near)}?")


def mix(text: str, clients: int) -> dict[type[Client], int]:
    """Read `idle=80,poll=15,chat=5` into numbers of clients."""
    weights: dict[type[Client], float] = {}
    for part in names(text):
        name, _, share = part.partition("=")
        persona = find_persona(name.strip(), "--mix", honest=True)
        try:
            weight = float(share)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise UsageError(f"--mix: {part!r} is not of the form NAME=SHARE with a share above 0")
        weights[persona] = weights.get(persona, 0.0) + weight
    if not weights:
        raise UsageError("--mix: name at least one persona, for example idle=100; `loadgen list` prints them")
    return shares(weights, clients)


def shares(weights: Mapping[type[Client], float], clients: int) -> dict[type[Client], int]:
    """Divide by largest remainder; everybody who was named gets at least one."""
    if len(weights) > clients:
        raise UsageError(f"--clients: {clients} are too few for {len(weights)} personas")
    total = sum(weights.values())
    exact = {persona: clients * weight / total for persona, weight in weights.items()}
    shares = {persona: max(int(number), 1) for persona, number in exact.items()}
    by_need = sorted(exact, key=lambda persona: shares[persona] - exact[persona])
    step = 1 if sum(shares.values()) < clients else -1
    order = by_need if step > 0 else by_need[::-1]
    while sum(shares.values()) != clients:
        for persona in order:
            if sum(shares.values()) == clients:
                break
            shares[persona] = max(shares[persona] + step, 1)
    return shares


def rooms(number: int | None, name: str | None, clients: int) -> tuple[str, ...]:
    """Name the rooms of a run."""
    if number is None:
        number = 1 if name else max(1, clients // CLIENTS_PER_ROOM)
    if name and number == 1:
        found: tuple[str, ...] = (name,)
    else:
        found = tuple(f"{name or 'load'}-{index}" for index in range(1, number + 1))
    if not _ROOM.fullmatch(found[-1]):
        raise UsageError(f"--room: {found[-1]!r} is no room's name: 1 to 64 of a-z 0-9 . _ -, a letter or digit first")
    return found


def at_least(flag: str, value: float, least: float) -> None:
    """Refuse a number that is too small, and nan."""
    if not value >= least:  # also true of nan
        raise UsageError(f"{flag}: {value:g} is below {least:g}")


def seconds(flag: str, value: float) -> None:
    """Refuse a time that no run should take."""
    if not 0 < value <= MAX_SECONDS:
        raise UsageError(f"{flag}: {value:g} is not between 0 and {MAX_SECONDS:g} seconds")
