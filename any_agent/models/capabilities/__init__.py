"""What a model can do, found out by asking it: at most eight tiny calls, and what they found is kept."""

from .probing import cloud_identity, forget_servers, is_free_to_ask, known_verdict, probe_capabilities
from .questions import MAX_CALLS
from .verdicts import Finding, Identity, Verdict, Verdicts, identity, verdicts_path

__all__ = [
    "MAX_CALLS", "Finding", "Identity", "Verdict", "Verdicts", "cloud_identity", "forget_servers", "identity",
    "is_free_to_ask", "known_verdict", "probe_capabilities", "verdicts_path",
]  # fmt: skip
