"""Which version of the code this is."""

import subprocess
from pathlib import Path

__version__ = "0.3.0"


def commit() -> str:
    """Of the checkout that this code lies in, with a plus where files differ from it; empty where it is installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip()
