"""Whether a process runs, of which nobody here may be the parent."""

from pathlib import Path


def is_running(process: int) -> bool:
    """Whether it has not ended; one that has may stay a zombie until its parent looks."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
