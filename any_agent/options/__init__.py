"""Every option: the fields in `fields.py`, what is read from them in `agent_options.py`."""

from ..types import ContextStrategy, ToolChoice
from .agent_options import ROUTE_FIELDS, SAMPLING, AgentOptions, given_fields
from .fields import OptionFields

__all__ = [
    "ROUTE_FIELDS",
    "SAMPLING",
    "AgentOptions",
    "ContextStrategy",
    "OptionFields",
    "ToolChoice",
    "given_fields",
]
