"""The options of structured output; AgentOptions has them, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

OutputMode = Literal["auto", "schema", "tool", "prompt"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options ask for. `shape`: a type, or JSON Schema in one of its spellings; `may_probe`: `probe_model`."""

    shape: Any
    mode: OutputMode = "auto"
    retries: int = 2
    validator: Callable[[Any], Any] | None = None
    may_probe: bool = False


class OutputOptions(BaseModel):
    """The part of AgentOptions that is about structured output."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    # -- structured output
    output_type: Any = None
    """What `response.data` shall be: a pydantic model, dataclass, TypedDict, union, `list[…]`, any type, JSON Schema;
    None: text."""
    output_format: dict[str, Any] | None = None
    """Claude's spelling of a JSON Schema: `{"type": "json_schema", "schema": {…}}`; None: not given."""
    output_validator: Callable[[Any], Any] | None = None
    """Function of the value, sync or async: raises ValueError with what the model is told, or returns the value to use
    (None or True: as it is; False: refused). None: no further check."""
    output_retries: int = Field(2, ge=0)
    """How often a model whose answer does not fit is told so and asked again, within a run; 0: never."""
    output_mode: OutputMode = "auto"
    """How it is asked for: `schema` (the server's `response_format`), `tool` (a final tool), `prompt`; `auto`: the
    surest that is known to work there."""

    @property
    def wanted(self) -> Wanted | None:
        """What is asked for; None: text."""
        shape = self.output_format if self.output_type is None else self.output_type
        return None if shape is None else Wanted(shape, self.output_mode, self.output_retries, self.output_validator)
