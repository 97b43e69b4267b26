"""How a server's tokenizer relates to our counts: learned from what it reports, with bounds, kept across runs."""

from .features import IMAGE, MESSAGE, TOKENS, packed, rough_tokens, unpacked
from .fit import FLOOR, Bounds, Fit, Step, Trust
from .kept import Calibration, calibration_path
from .sums import Reported, Sum, Sums

__all__ = [
    "FLOOR", "IMAGE", "MESSAGE", "TOKENS", "Bounds", "Calibration", "Fit", "Reported", "Step", "Sum", "Sums", "Trust",
    "calibration_path", "packed", "rough_tokens", "unpacked",
]  # fmt: skip
