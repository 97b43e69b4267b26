"""How a server's tokenizer relates to our counts: learned from what it reports, with bounds, kept across runs."""

from .features import IMAGE, MESSAGE, packed, rough_tokens, unpacked
from .fit import Bounds, Fit, Step, Trust
from .kept import Calibration, calibration_path

__all__ = [
    "IMAGE", "MESSAGE", "Bounds", "Calibration", "Fit", "Step", "Trust", "calibration_path", "packed", "rough_tokens",
    "unpacked",
]  # fmt: skip
