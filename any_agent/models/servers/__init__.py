"""Which model servers run here, what they have loaded, the window they really serve, and how they count tokens."""

from .asking import count_prompt, discover, open_client, probe, resolve_auto, served_window, tokenize
from .places import Address, addresses_here
from .shapes import Kind, ServedModel, Server, ServerCache, Window, best_model, find_model, nearest_model

__all__ = [
    "Address", "Kind", "ServedModel", "Server", "ServerCache", "Window", "addresses_here", "best_model", "count_prompt",
    "discover", "find_model", "nearest_model", "open_client", "probe", "resolve_auto", "served_window", "tokenize",
]  # fmt: skip
