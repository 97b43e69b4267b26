"""What each finding of a capability probe means for an agent, and what changes it; for `doctor` and its page."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.capabilities.verdicts import UNKNOWN, Finding, Verdict


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing that is asked of a model: what a yes and a no mean, and how a no is mended ('': it is no fault)."""

    name: str
    title: str
    yes: str
    no: str
    fix: str = ""

    def meaning(self, finding: Finding) -> str:
        """One line: what it means, why it is so, and the fix where there is one."""
        if finding.value is None:
            return finding.note or "not asked"
        if finding.value:
            return f"{self.yes} ({finding.note})" if finding.note else self.yes
        why = f" ({finding.note})" if finding.note else ""
        return f"{self.no}{why}" + (f"; fix: {self.fix}" if self.fix else "")


ABILITIES = (
    Ability(
        "native_tools",
        "native tools",
        "tools are called",
        "no native tool calls: tools are described in the prompt, or calls read from the text",
        "llama.cpp: start it with --jinja and a template that takes tools; vLLM: --enable-auto-tool-choice and "
        "--tool-call-parser; Ollama, LM Studio: a model that lists tools",
    ),
    Ability(
        "text_calls",
        "calls in the text",
        "calls come as text and are read from it",
        "calls come as text that cannot be read",
        "the server's parser for this model, see native tools",
    ),
    Ability(
        "required_choice",
        "tool_choice required",
        "a call can be forced",
        "tool_choice 'required' has no effect: the model may answer with text",
        "say in the prompt that the tool must be used",
    ),
    Ability(
        "named_choice",
        "tool_choice by name",
        "a certain tool can be forced",
        "naming a tool has no effect",
        "offer that tool alone, with tool_choice 'required'",
    ),
    Ability(
        "parallel_calls",
        "parallel calls",
        "several calls come in one answer",
        "one call an answer: several calls take several turns",
    ),
    Ability(
        "streamed_arguments",
        "streamed arguments",
        "arguments arrive in fragments",
        "each call arrives whole, after a silence as long as it takes to write",
        "none needed; give long arguments a longer time limit",
    ),
    Ability(
        "json_schema",
        "JSON schema",
        "the answer's shape is enforced",
        "a JSON schema is not enforced: answers must be checked, or given through a tool",
        "update the server, or switch its grammar (guided decoding) on",
    ),
    Ability(
        "schema_beside_tools",
        "schema beside tools",
        "tools and a schema work in one request",
        "tools and a schema exclude each other: the schema belongs in a last request without tools",
    ),
    Ability(
        "late_system",
        "late system message",
        "a system message may stand anywhere",
        "only the first message may be a system message: a later one is sent as the user's",
    ),
    Ability(
        "images",
        "images",
        "images are seen",
        "images are not taken",
        "a vision model; llama.cpp also needs its --mmproj file",
    ),
    Ability(
        "reasoning_field",
        "reasoning apart",
        "reasoning arrives apart from the answer",
        "no reasoning was seen",
    ),
)


def sign(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def rows(verdict: Verdict) -> list[tuple[str, ...]]:
    """(ability, yes/no/?, what it means) of each finding; what was not reached is left out."""
    found = verdict.findings()
    asked = [one for one in ABILITIES if found[one.name] != UNKNOWN]
    return [(one.title, sign(found[one.name].value), one.meaning(found[one.name])) for one in asked]
