"""The marks around calls in text: which open, which close, and which say nothing."""

from __future__ import annotations

from collections.abc import Mapping

# Opening mark: what closes it (none: the JSON itself ends it).
OPENERS: Mapping[str, tuple[str, ...]] = {
    "<tool_call>": ("</tool_call>",),
    "<tool_calls>": ("</tool_calls>",),
    "<longcat_tool_call>": ("</longcat_tool_call>",),
    "<TOOLCALL>": ("</TOOLCALL>",),
    "<tools>": ("</tools>",),
    "<function_call>": ("</function_call>",),
    "<function_calls>": ("</function_calls>",),
    "<minimax:tool_call>": ("</minimax:tool_call>",),
    "<seed:tool_call>": ("</seed:tool_call>",),
    "<｜DSML｜function_calls>": ("</｜DSML｜function_calls>",),
    "<function=": ("</function>",),
    "<invoke name=": ("</invoke>",),
    "<|tool_call_start|>": ("<|tool_call_end|>",),
    "<|tool_calls_section_begin|>": ("<|tool_calls_section_end|>",),
    "<|tool_call_begin|>": ("<|tool_call_end|>",),
    "<|python_start|>": ("<|python_end|>",),
    "<|START_ACTION|>": ("<|END_ACTION|>",),
    "<|action_start|>": ("<|action_end|>",),
    "<start_function_call>": ("<end_function_call>",),
    "<|tool_call>": ("<tool_call|>",),
    "<|python_tag|>": (),
    "<|tool_call|>": (),
    "[TOOL_CALLS]": (),
    "[TOOL_REQUEST]": ("[END_TOOL_REQUEST]",),
    **{
        f"<{bar}tool{gap}{what}{gap}begin{bar}>": tuple(
            f"<{b}tool{g}{what}{g}end{b}>" for b in "｜|" for g in "▁_ "
        )
        for bar in "｜|"
        for gap in "▁_ "
        for what in ("calls", "call")
        if (bar, gap, what) != ("|", "_", "call")  # Kimi's
    },
}  # fmt: skip
# Openers that are a part of what the call says: a call whose outer marks the model left out.
INNER = frozenset(one for one in OPENERS if "call_begin" in one or "call▁begin" in one or "call begin" in one) | {
    "<function=",
    "<invoke name=",
}
FAMILIES: Mapping[str, str] = {
    "<tool_call>": "hermes", "<function=": "qwen_coder", "[TOOL_CALLS]": "mistral", "<|python_tag|>": "llama",
    "[TOOL_REQUEST]": "lm_studio", "<|tool_call_start|>": "lfm", "<|tool_calls_section_begin|>": "kimi",
    "<|python_start|>": "llama_pythonic", "<minimax:tool_call>": "minimax", "<|tool_call|>": "granite",
    "<|tool_call_begin|>": "kimi", "<start_function_call>": "gemma", "<|tool_call>": "gemma",
    "<invoke name=": "invoke",
}  # fmt: skip
# What may stand between and behind calls and says nothing.
NOISE = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|eot|>", "<|eom|>",
    "</s>", "<end_of_turn>", "</tool_call>", "</function>", "<|tool_call_end|>", "<|/tool_call|>",
    "<|tool_calls_section_end|>", "<｜tool▁calls▁end｜>", "<｜end▁of▁sentence｜>", "<|call|>", "<|return|>",
    "<|observation|>", "<start_function_response>", "<|tool_response>", "</function_calls>",
)  # fmt: skip
