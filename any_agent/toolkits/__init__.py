"""Toolkits: ready-made tools. Each file stands alone; nothing is loaded until it is imported."""
