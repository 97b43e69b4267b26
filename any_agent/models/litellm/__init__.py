"""LiteLLM behind its door: routes and keys, errors by one table, raw chunks, clients."""
