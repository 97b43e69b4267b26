"""A home for the benchmarks: what the package keeps for its user is neither read nor written by them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache


@cache
def own_home() -> str:
    """A folder for ANY_AGENT_HOME; it goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="any-agent-benchmark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
