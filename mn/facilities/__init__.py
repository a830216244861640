"""A room for each chapter of the manual: its tables, its rules, its operations.

`load` imports every module below, so that each registers its tables and operations.
"""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import all facilities."""
    for module in pkgutil.walk_packages(__path__, __name__ + "."):
        importlib.import_module(module.name)
