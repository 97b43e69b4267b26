"""Packages that take long to import, away from the event loop."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module


async def load(package: str) -> None:
    """Import a package in a thread, unless that was done: the loop stands still for 0.03 s in place of 0.3."""
    if package not in sys.modules:
        await asyncio.to_thread(import_module, package)
