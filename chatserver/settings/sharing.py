"""The settings of one worker of several: its share of the limits on all workers together.

Owns: the arithmetic of a share. May not: know a limit by name; fields.py declares how each is shared.

    settings = share_of(Settings(workers=4, max_connections=10_000))  # max_connections=2500
"""

import dataclasses
import math
from typing import Any

from chatserver.settings.fields import LOWER_BOUNDS, SPECS, Settings
from chatserver.settings.spec import Sharing

#: Standard deviations above the mean in the share of a limit on connections, which the kernel spreads at random: a
#: network that is at the limit is refused by a worker in 1 of 700 cases.
SPREAD_DEVIATIONS = 3.0

_DIVIDED = (Sharing.DIVIDED, Sharing.SPREAD)


def share_of(settings: Settings) -> Settings:
    """The settings of one worker; the same if there is only one."""
    shares: dict[str, Any] = {name: share(name, settings) for name, spec in SPECS.items() if spec.sharing in _DIVIDED}
    return dataclasses.replace(settings, **shares)


def share(name: str, settings: Settings) -> int:
    """One worker's share of a divided limit; 0 keeps its meaning."""
    total, spec = int(getattr(settings, name)), SPECS[name]
    mean = total / settings.workers
    slack = SPREAD_DEVIATIONS * math.sqrt(mean) if spec.sharing is Sharing.SPREAD else 0.0
    floor: float = max(spec.minimum, *(getattr(settings, least) for least in LOWER_BOUNDS.get(name, ())), 0)
    return min(total, math.ceil(max(mean + slack, floor)))
