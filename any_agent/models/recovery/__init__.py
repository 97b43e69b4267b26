"""The ladder from what a model said to a tool call: found in text, repaired without loss, asked again under constraint.

Nothing here runs a tool. A call that had to be invented, cut or shortened to be read becomes a ToolUseError.
"""

from .lossless import UnclearError, fitted, parse_arguments
from .speech import Speech

__all__ = ["Speech", "UnclearError", "fitted", "parse_arguments"]
