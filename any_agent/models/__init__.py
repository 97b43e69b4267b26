"""The way to a model: two doors (direct, LiteLLM), retry and fallback, and how deltas become blocks."""
