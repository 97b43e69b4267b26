"""Traces and metrics by OpenTelemetry's conventions for generative AI (extra `otel`)."""

from .otel import OtelObserver

__all__ = ["OtelObserver"]
