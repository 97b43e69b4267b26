"""Write a tiny llama-architecture GGUF in milliseconds: byte tokens, our own chat template, weights partly set by hand.

The text comes from random weights. Three attention heads of the first layer are set by hand, so that the model behaves:

* OLD: how far back the generation prompt is; after about 50 tokens the end token wins.
* TOOL_SPOKE: who spoke last, the user or a tool; only a user is answered with a tool call.
* HAS_TOOLS: whether the prompt offers tools at all.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CONTROL = ["<|end|>", "<|system|>", "<|tools|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|endoftext|>"]
# The server's output parser sees these only as USER_DEFINED tokens.
MARKUP = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
END, SYSTEM, TOOLS, USER, ASSISTANT, TOOL, START, CALL, CALL_END, *_ = range(256, 256 + len(CONTROL + MARKUP))
N_VOCAB = 256 + len(CONTROL + MARKUP) + 1  # one merged token: the merge list may not be empty

VOWELS = [ord(letter) for letter in "aeiou"]
CONSONANTS = [ord(letter) for letter in "bdfghklmnprstvw"]
DIGITS = [ord(digit) for digit in "0123456789"]
SPACE, QUOTE = ord(" "), ord('"')

DIM, FFN, HEADS, LAYERS, HEAD_DIM = 64, 128, 4, 2, 16
ROPE_BASE = 1e6
# Residual channels kept free of random weights: a constant, marks set by the embedding, flags raised by the heads.
ONE, IS_ASSISTANT, IS_CALL_END, IS_END, IS_SYSTEM, IS_TOOLS, IS_USER, IS_TOOL = range(8)
IS_VOWEL, IS_BREAK, IS_DIGIT = range(8, 11)
OLD, TOOL_SPOKE, HAS_TOOLS = range(11, 14)
N_RESERVED = 14
MARK_OF = {
    ASSISTANT: IS_ASSISTANT,
    CALL_END: IS_CALL_END,
    END: IS_END,
    SYSTEM: IS_SYSTEM,
    TOOLS: IS_TOOLS,
    USER: IS_USER,
    TOOL: IS_TOOL,
}
ONE_SIZE, MARK_SIZE, FLAG_SIZE = 4.0, 16.0, 8.0
STILL_PAIR, SLOW_PAIR = 14, 10  # RoPE pairs of a head: one that hardly turns within the window, one that turns slowly
SLOPE = 0.5  # score lost per token of distance
YOUNG_TOKENS = 54  # after about so many tokens the answer counts as old
NEVER = -1000.0

TEMPLATE = r"""
{%- if tools -%}
<|tools|>
{%- for tool in tools -%}
{{ tool.function.name }}({% for name in tool.function.parameters.properties %}{{ name }} {% endfor %})
{%- endfor -%}
<|end|>
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
<|assistant|>{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{- message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor -%}
<|end|>
{%- elif message.role in ['system', 'user', 'tool'] -%}
<|{{ message.role }}|>{{ message.content }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
""".strip()


def write_tiny_model(
    path: Path, *, calls_tools: bool = False, is_erratic: bool = False, ends: bool = True, ctx: int = 4096
) -> Path:
    """Write the model file.

    Args:
        calls_tools: Answer a user's message with one tool call when the request offers tools.
        is_erratic: With calls_tools: sometimes several calls in one turn, sometimes a call after a tool's result; by
            the seed, at a temperature of 1, for tools with names and parameters of one or two letters.
        ends: False makes a model that talks until it is stopped.
        ctx: Trained window in tokens (one byte is one token).
    """
    weights = _random_weights(np.random.default_rng(0))
    _set_output(weights["output.weight"], calls_tools=calls_tools, ends=ends)
    if is_erratic:
        _loosen(weights["output.weight"])
    _set_heads(weights)
    _write_gguf(path, weights, ctx)
    return path


def _random_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    def matrix(rows: int, columns: int, scale: float) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * scale).astype(np.float32)

    embedding = matrix(N_VOCAB, DIM, 1.0)
    embedding[:, :N_RESERVED] = 0.0
    embedding[:, ONE] = ONE_SIZE
    for token, mark in MARK_OF.items():
        embedding[token, N_RESERVED:] = 0.0  # a fixed length, so that the hand-set heads can count on it
        embedding[token, mark] = MARK_SIZE
    embedding[CONSONANTS, IS_VOWEL], embedding[VOWELS, IS_VOWEL] = -4.0, 4.0
    embedding[[QUOTE, SPACE], IS_BREAK] = 4.0
    embedding[DIGITS, IS_DIGIT] = 4.0
    output = matrix(N_VOCAB, DIM, 0.6)
    output[:, :N_RESERVED] = 0.0
    weights = {"token_embd.weight": embedding, "output.weight": output, "output_norm.weight": np.ones(DIM, np.float32)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            weights[f"{block}{norm}.weight"] = np.ones(DIM, np.float32)
        for part, scale in (("attn_q", 4.0), ("attn_k", 4.0), ("attn_v", 1.0)):  # sharp attention: no endless "lalala"
            weights[f"{block}{part}.weight"] = matrix(DIM, DIM, scale / math.sqrt(DIM))
        for part, width in (("attn_output", DIM), ("ffn_down", FFN)):
            weights[f"{block}{part}.weight"] = matrix(DIM, width, 0.7 / math.sqrt(width))
            weights[f"{block}{part}.weight"][:N_RESERVED] = 0.0
        for part in ("ffn_gate", "ffn_up"):
            weights[f"{block}{part}.weight"] = matrix(FFN, DIM, 1 / math.sqrt(DIM))
    return weights


def _set_output(output: np.ndarray, *, calls_tools: bool, ends: bool) -> None:
    """Set what the reserved channels say: letters and spaces are likely, the flags open a call and end the answer."""
    bias = np.full(N_VOCAB, -30.0, np.float32)
    bias[32:127] = -2.0
    bias[[*VOWELS, *CONSONANTS, SPACE]] = 3.0
    bias[ord(",")] = -4.0  # one call, not several
    bias[CALL_END] = -2.0  # only a grammar lets it through
    bias[END] = 1.0 if ends else -30.0
    output[[END, CALL_END, *b"}],"], N_RESERVED:] = 0.0  # not by chance: here the order counts
    output[:, ONE] = bias
    output[[*CONSONANTS, SPACE], IS_VOWEL], output[VOWELS, IS_VOWEL] = 1.2, -1.2  # makes syllables
    output[END, IS_CALL_END] = 40.0
    output[[QUOTE, SPACE], IS_BREAK] = -8.0  # no empty strings, no two spaces
    output[DIGITS, IS_DIGIT] = -3.0  # short numbers
    if ends:  # JSON under a grammar closes as well: strings before brackets, brackets before commas
        for token, push in ((END, 16.0), (QUOTE, 3.4), (CALL_END, 2.4), (*b"}", 1.6), (*b"]", 1.5), (*b",", 2.1)):
            output[token, OLD] = push
    if calls_tools:
        output[CALL, [ONE, IS_ASSISTANT, HAS_TOOLS, TOOL_SPOKE]] = [-60.0, 10.0, 20.0, -20.0]  # all three or nothing


def _loosen(output: np.ndarray) -> None:
    """Bring the end and another call after a call, and a call and text after a result, so near that chance decides."""
    output[END, IS_CALL_END], output[CALL, IS_CALL_END] = 20.0, 32.5
    output[CALL, TOOL_SPOKE] = -7.8


def _set_heads(weights: dict[str, np.ndarray]) -> None:
    speakers = [IS_SYSTEM, IS_TOOLS, IS_USER, IS_TOOL]
    too_far = -SLOPE * YOUNG_TOKENS
    _look(weights, 0, OLD, near=[IS_ASSISTANT], level=dict.fromkeys(speakers, too_far), votes=speakers)
    _look(weights, 1, TOOL_SPOKE, near=[IS_USER, IS_TOOL], level={}, votes=[IS_TOOL])
    _look(weights, 2, HAS_TOOLS, near=[], level={**dict.fromkeys(speakers, too_far), IS_TOOLS: 0.0}, votes=[IS_TOOLS])


def _look(
    weights: dict[str, np.ndarray], head: int, flag: int, *, near: list[int], level: dict[int, float], votes: list[int]
) -> None:
    """Set one head of the first layer to raise `flag` by as much as it looks at tokens whose mark is in `votes`.

    It looks at the token of the highest score: marks in `near` start at 0 and lose SLOPE per token of distance, marks
    in `level` keep their score, all other tokens have NEVER.
    """
    query, key, value, out = (weights[f"blk.0.attn_{part}.weight"] for part in ("q", "k", "v", "output"))
    first = head * HEAD_DIM
    for matrix in (query, key, value):
        matrix[first : first + HEAD_DIM] = 0.0
    out[:, first : first + HEAD_DIM] = 0.0
    marked_rms = math.sqrt((ONE_SIZE**2 + MARK_SIZE**2) / DIM)
    one, mark = ONE_SIZE / marked_rms, MARK_SIZE / marked_rms  # a marked token's channels after the norm
    # The query is the constant alone, about ONE_SIZE at plain tokens; scores are divided by sqrt(HEAD_DIM).
    query[[first + STILL_PAIR, first + SLOW_PAIR], ONE] = math.sqrt(HEAD_DIM) / ONE_SIZE
    key[first + STILL_PAIR, ONE] = NEVER / one
    for wanted, score in {**dict.fromkeys(near, 0.0), **level}.items():
        key[first + STILL_PAIR, wanted] = (score - NEVER) / mark
    # Query and key stand at a right angle on this pair: sin(distance * frequency), a straight line for near tokens.
    frequency = ROPE_BASE ** (-SLOW_PAIR / HEAD_DIM)
    key[first + SLOW_PAIR + 1, near] = -SLOPE / frequency / mark
    value[first, votes] = 1 / mark
    out[flag, first] = FLAG_SIZE


def _write_gguf(path: Path, weights: dict[str, np.ndarray], ctx: int) -> None:
    writer: Any = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("any-agent-tiny")
    writer.add_context_length(ctx)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(N_VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    kinds, stand_ins = gguf.TokenType, _byte_stand_ins()
    writer.add_token_list([*stand_ins, *CONTROL, *MARKUP, stand_ins[0] * 2])
    writer.add_token_types(
        [kinds.NORMAL] * 256 + [kinds.CONTROL] * len(CONTROL) + [kinds.USER_DEFINED] * len(MARKUP) + [kinds.NORMAL]
    )
    writer.add_token_merges([f"{stand_ins[0]} {stand_ins[0]}"])
    writer.add_bos_token_id(START)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in weights.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _byte_stand_ins() -> list[str]:
    """The printable character that GPT-2 style vocabularies use for each byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
