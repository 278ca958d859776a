"""The description of a protocol.

Owns: the type. May not: know any protocol.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from loadgen.client import Needs
from loadgen.victims.victim import Newcomer, Victim


@dataclass(frozen=True, kw_only=True)
class Protocol:
    name: str
    victims: tuple[type[Victim], ...]  # those that stay connected
    newcomer: Newcomer
    speaker: str  # the persona that sends on the schedule
    idle: str  # the persona that only stays connected
    proves: frozenset[Needs]  # what a server must speak if its victims succeed
    mix: Mapping[str, float] = field(default_factory=dict)  # shares of its victims, where `--victim` has its name
