"""The store in PostgreSQL, for many machines at once: the same promises as the file, checked by the same suite."""

from .store import PostgresStore

__all__ = ["PostgresStore"]
