"""node, and packages of npm for it."""

import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL_PATIENCE = 60.0  # s


def installed(home: Path, *packages: str) -> None:
    """Install packages for scripts in this folder. Where that is not possible, the test is skipped."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} on this machine")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), *packages]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_PATIENCE, stdin=subprocess.DEVNULL)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot install {', '.join(packages)}: {error}")
