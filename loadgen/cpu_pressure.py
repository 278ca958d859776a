"""How long programs of this machine had to wait for a processor: the kernel's pressure stall information.

Owns: reading it. May not: judge. Kernels without it (before 4.20, or built so) tell nothing.
"""

import re
from pathlib import Path
from typing import Final

_PRESSURE: Final = Path("/proc/pressure/cpu")
_SOME: Final = re.compile(r"^some .*total=(\d+)$", re.MULTILINE)


def read() -> float | None:
    """Seconds so far in which at least one program was ready to run and had no processor."""
    try:
        found = _SOME.search(_PRESSURE.read_text())
    except OSError:
        return None
    return int(found.group(1)) / 1e6 if found else None
