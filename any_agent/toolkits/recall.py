"""Recall: past conversations and indexed documents as a tool of the model. The option `recall` gives it to an agent."""

from ..tools.recall import recall_tool

__all__ = ["recall_tool"]
