"""The table of failures: every wording of a server that we know, and what it must not be taken for."""

from __future__ import annotations

import json
import pickle
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from any_agent import errors
from any_agent.errors import ContextOverflowError, ProviderError
from any_agent.models import failures
from any_agent.models.failures import Where

WHERE = Where("tiny", "lm_studio", "http://127.0.0.1:1234/v1", ("sk-secret-1",))


def said(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


# (who, status, text, tokens of the prompt, tokens of the window); None: the text does not tell it
OVERFLOWS = [
    (
        "llama.cpp",
        400,
        "request (5003 tokens) exceeds the available context size (2048 tokens), try increasing it",
        5003,
        2048,
    ),
    (
        "llama.cpp 500",
        500,
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        None,
        None,
    ),
    (
        "vLLM",
        400,
        "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input "
        "tokens. Please reduce the length of the input messages.",
        2049,
        2048,
    ),
    (
        "vLLM, old",
        400,
        "This model's maximum context length is 4097 tokens. However, you requested 5010 tokens (4010 in the "
        "messages, 1000 in the completion). Please reduce the length of the messages or completion.",
        4010,
        4097,
    ),
    (
        "vLLM, an answer too long",
        400,
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 2048 tokens and "
        "your request has 20 input tokens (5000 > 2048 - 20).",
        20,
        2048,
    ),
    (
        "vLLM 0.5, an answer too long",
        400,
        "max_tokens=5000 cannot be greater than max_model_len=max_total_tokens=2048. Please request fewer output tokens.",
        None,
        2048,
    ),
    ("vLLM 0.6", 400, "max_tokens must be at least 1, got -24.", None, None),
    (
        "SGLang, with the answer",
        400,
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of 4500 "
        "tokens: 3500 tokens from the input messages and 1000 tokens for the completion.",
        3500,
        4096,
    ),
    (
        "OpenRouter, with the answer",
        400,
        "This endpoint's maximum context length is 4096 tokens. However, you requested about 5000 tokens (4000 of text "
        "input, 1000 in the output). Please reduce the length of either one.",
        4000,
        4096,
    ),
    (
        "vLLM 0.16",
        400,
        "You passed 1015 input tokens and requested 10 output tokens. However, the model's context length is "
        "only 1024 tokens, resulting in a maximum input length of 1014 tokens. Please reduce the length of the input prompt.",
        1015,
        1024,
    ),
    (
        "vLLM, older",
        400,
        "The decoder prompt (length 9003) is longer than the maximum model length of 4096. Make sure that "
        "`max_model_len` is no smaller than the number of text tokens.",
        9003,
        4096,
    ),
    ("SGLang", 400, "The input (9000 tokens) is longer than the model's context length (4096 tokens).", 9000, 4096),
    (
        "TGI",
        422,
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5003 `inputs` tokens "
        "and 20 `max_new_tokens`",
        5003,
        4096,
    ),
    (
        "Ollama chat",
        400,
        "the prompt is longer than the context length currently available to the model; shorten the prompt, "
        "increase num_ctx",
        None,
        None,
    ),
    ("Ollama embed", 400, "the input length exceeds the context length", None, None),
    (
        "Ollama MLX",
        500,
        "input length (9003 tokens) exceeds the model's maximum context length (4096 tokens)",
        9003,
        4096,
    ),
    (
        "LM Studio, keep",
        400,
        "Trying to keep the first 11316 tokens when context the overflows. However, the model is loaded "
        "with context length of only 4096 tokens, which is not enough. Try to load the model with a larger context length, or "
        "provide a shorter input",
        11316,
        4096,
    ),
    (
        "LM Studio, n_keep",
        400,
        "The number of tokens to keep from the initial prompt is greater than the context length "
        "(n_keep: 13055>= n_ctx: 4096). Try to load the model with a larger context length, or provide a shorter input.",
        13055,
        4096,
    ),
    (
        "LM Studio 0.4",
        200,
        "Input does not fit in context length. The input has 31430 tokens, but the context length only "
        "supports 30000 tokens.",
        31430,
        30000,
    ),
    ("LM Studio MLX", 200, "Context size has been exceeded.", None, None),
    (
        "LM Studio, generating",
        200,
        "Reached context length of 4096 tokens with model (arch: qwen3) that does not currently "
        "support mid-generation context overflow. Try reloading with a larger context length or shortening the prompt/chat.",
        None,
        4096,
    ),
    ("llama-cpp-python", 400, "Requested tokens (2285) exceed context window of 2048", 2285, 2048),
    (
        "OpenAI, new",
        400,
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        None,
        None,
    ),
    (
        "OpenAI, old",
        400,
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 140225 "
        "tokens. Please reduce the length of the messages.",
        140225,
        128000,
    ),
    ("Groq", 400, "Please reduce the length of the messages or completion.", None, None),
    ("Groq 413", 413, "Request too large for this model: reduce the length of the messages.", None, None),
    (
        "OpenRouter",
        400,
        "This endpoint's maximum context length is 32768 tokens. However, you requested about 40011 tokens "
        "(40011 of text input). Please reduce the length of either one",
        40011,
        32768,
    ),
    (
        "Mistral",
        400,
        "Prompt contains 40014 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        40014,
        32768,
    ),
    (
        "xAI",
        400,
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        537812,
        131072,
    ),
    ("Anthropic", 400, "prompt is too long: 212345 tokens > 200000 maximum", 212345, 200000),
    (
        "Anthropic, sum",
        400,
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input "
        "length or `max_tokens` and try again",
        190000,
        200000,
    ),
    (
        "Gemini",
        400,
        "The input token count (1200345) exceeds the maximum number of tokens allowed (1048576).",
        1200345,
        1048576,
    ),
    (
        "DeepSeek",
        400,
        "This model's maximum context length is 65536 tokens. However, you requested 70,011 tokens (66,011 in "
        "the messages, 4,000 in the completion).",
        66011,
        65536,
    ),
    ("Bedrock", 400, "Input is too long for requested model.", None, None),
    (
        "Cohere",
        400,
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5003",
        5003,
        4081,
    ),
    (
        "Together",
        422,
        "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9003 `inputs` tokens and 512 `max_new_tokens`",
        9003,
        8193,
    ),
]


@pytest.mark.parametrize(
    ("status", "text", "current", "maximum"), [row[1:] for row in OVERFLOWS], ids=[r[0] for r in OVERFLOWS]
)
@pytest.mark.parametrize("form", ["json", "text", "in_stream", "embedded"])
def test_every_wording_of_an_overflow(
    status: int, text: str, current: int | None, maximum: int | None, form: str
) -> None:
    if form == "in_stream":
        error = failures.from_answer(WHERE, 200, {"error": {"message": text}, "message": text}, in_stream=True)
    elif form == "embedded":  # servers in front of servers quote the text within their own
        error = failures.from_answer(WHERE, 500, said(f"upstream said: {json.dumps({'error': text})}"))
    else:
        error = failures.from_answer(
            WHERE, status, said(text, type="invalid_request_error") if form == "json" else text
        )
    assert type(error) is ContextOverflowError
    assert (error.current_tokens, error.max_tokens) == (current, maximum)
    assert not error.retryable
    assert text[:60] in str(error) or form == "embedded"


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_an_overflow_is_one_under_any_status(status: int) -> None:
    text = "This model's maximum context length is 4096 tokens, you sent 5000 tokens"
    error = failures.from_answer(WHERE, status, said(text))
    assert type(error) is ContextOverflowError
    assert error.status == status


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "exceed_context_size_error", "n_prompt_tokens": 5003, "n_ctx": 2048},
        {"code": "context_length_exceeded"},
        {"param": "input_tokens"},
    ],
)
def test_the_fields_of_an_error_are_enough(fields: dict[str, Any]) -> None:
    error = failures.from_answer(WHERE, 400, said("no", **fields))
    assert type(error) is ContextOverflowError
    assert error.max_tokens == fields.get("n_ctx")
    assert error.current_tokens == fields.get("n_prompt_tokens")


NOT_OVERFLOWS = [
    (
        429,
        "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested "
        "5000. Please try again in 8s.",
        "RateLimitError",
    ),
    (
        413,
        "Request too large for model `llama-3.3-70b` on tokens per minute (TPM): Limit 6000, Requested 10004, please reduce "
        "your message size and try again.",
        "RequestRejectedError",
    ),  # more than a minute allows: waiting cannot help
    (413, "Request too large on tokens per minute (TPM): Limit 12000, Requested 10004", "RateLimitError"),
    (429, "Number of request tokens has exceeded your per-minute rate limit", "RateLimitError"),
    (429, "Too many tokens, please wait before trying again.", "RateLimitError"),
    (400, "max_tokens must be at least 1, got 0", "RequestRejectedError"),
    (
        400,
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.",
        "RequestRejectedError",
    ),
    (
        400,
        "max_tokens: 300000 > 64000, which is the maximum allowed number of output tokens for claude",
        "RequestRejectedError",
    ),
    (400, "'max_completion_tokens' should be greater than or equal to 1", "RequestRejectedError"),
    (400, "temperature must be between 0 and 2", "RequestRejectedError"),
    (400, "Invalid value for 'top_logprobs': must be less than or equal to 20", "RequestRejectedError"),
    (
        400,
        "Invalid 'messages[1].content': string too long. Expected a string with maximum length 1048576, but got a string "
        "with length 2000000 instead.",
        "RequestRejectedError",
    ),
    (
        400,
        "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 200 "
        "instead.",
        "RequestRejectedError",
    ),
    (
        400,
        "Invalid 'messages[0].tool_calls[0].id': string too long. Expected maximum length 40",
        "RequestRejectedError",
    ),
    (400, "Unsupported value: the parameter temperature is not supported with this model", "RequestRejectedError"),
    (400, "messages: at least one message is required", "RequestRejectedError"),
    (400, "Image size exceeds the limit of 5 MB", "RequestRejectedError"),
    (400, "Unknown parameter: 'prompt_limit'", "RequestRejectedError"),
    (
        500,
        "input (3000 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
        "RequestRejectedError",
    ),
    (500, "Internal Server Error", "ServerError"),
    (401, "Invalid token: token length exceeds the limit", "AuthenticationError"),
]


@pytest.mark.parametrize(("status", "text", "kind"), NOT_OVERFLOWS)
@pytest.mark.parametrize("form", ["json", "text"])
def test_what_only_looks_like_an_overflow(status: int, text: str, kind: str, form: str) -> None:
    error = failures.from_answer(WHERE, status, said(text) if form == "json" else text)
    assert type(error).__name__ == kind


KINDS = [
    # status rows
    (400, "bad", "RequestRejectedError", False),
    (401, "no", "AuthenticationError", False),
    (402, "pay", "QuotaExceededError", False),
    (403, "forbidden", "PermissionDeniedError", False),
    (404, "Not Found", "RequestRejectedError", False),
    (405, "Method Not Allowed", "RequestRejectedError", False),
    (408, "", "ProviderTimeoutError", True),
    (409, "conflict", "ServerError", True),
    (413, "Payload Too Large", "RequestRejectedError", False),
    (418, "I'm a teapot", "RequestRejectedError", False),
    (422, "Unprocessable", "RequestRejectedError", False),
    (425, "Too Early", "ServerError", True),
    (429, "slow down", "RateLimitError", True),
    (451, "Unavailable For Legal Reasons", "RequestRejectedError", False),
    (500, "oops", "ServerError", True),
    (501, "This server does not support embeddings", "RequestRejectedError", False),
    (502, "Bad Gateway", "ServerError", True),
    (503, "Service Unavailable", "ServerError", True),
    (504, "Gateway Timeout", "ProviderTimeoutError", True),
    (520, "Web server returned an unknown error", "ServerError", True),
    (524, "A timeout occurred", "ProviderTimeoutError", True),
    (529, "Overloaded", "ServerError", True),
    (307, "", "RequestRejectedError", False),
    # texts that say more than the status
    (429, "You exceeded your current quota, please check your plan and billing details.", "QuotaExceededError", False),
    (400, "Your credit balance is too low to access the Anthropic API.", "QuotaExceededError", False),
    (
        500,
        "The api_key client option must be set either by passing api_key to the client or by setting the OPENAI_API_KEY "
        "environment variable",
        "AuthenticationError",
        False,
    ),
    (500, "Missing credentials. Please pass an `api_key`", "AuthenticationError", False),
    (400, "API key not valid. Please pass a valid API key.", "AuthenticationError", False),
    (400, "Incorrect API key provided: sk-***", "AuthenticationError", False),
    (503, "Loading model", "ModelLoadingError", True),
    (400, "registry.ollama.ai/library/gemma:2b does not support tools", "ToolsUnsupportedError", False),
    (500, "tools param requires --jinja flag", "ToolsUnsupportedError", False),
    (400, "tool_choice param requires --jinja flag", "ToolsUnsupportedError", False),
    (
        400,
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "ToolsUnsupportedError",
        False,
    ),
    (400, "Tools are not supported in this model", "ToolsUnsupportedError", False),
    (400, "This model doesn't support tool calling", "ToolsUnsupportedError", False),
    (400, "Function calling is not enabled for models/gemma-3", "ToolsUnsupportedError", False),
    (501, "tool calls are not supported", "ToolsUnsupportedError", False),
    (422, "[{'loc': ('body', 'tools'), 'msg': 'Extra inputs are not permitted'}]", "ToolsUnsupportedError", False),
    (401, "tools param requires --jinja flag", "AuthenticationError", False),
    (400, "tool_choice is not supported by this model", "RequestRejectedError", False),
    (400, "parallel_tool_calls is not supported", "RequestRejectedError", False),
    (400, "tools[0].function.parameters is not a valid schema", "RequestRejectedError", False),
    (400, "This model does not support response_format together with tools", "RequestRejectedError", False),
    (404, "model 'nope' not found, try pulling it first", "ModelNotFoundError", False),
    (404, "The model `nope` does not exist. Valid aliases: tiny.", "ModelNotFoundError", False),
    (400, "Server is pinned to tiny", "ModelNotFoundError", False),
    (
        400,
        "No models loaded. Please load a model in the developer page or use the `lms load` command.",
        "ModelNotFoundError",
        False,
    ),
    (
        400,
        "litellm.BadRequestError: LLM Provider NOT provided. Pass in the LLM provider you are trying to call.",
        "ModelNotFoundError",
        False,
    ),
    (
        400,
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "ContentPolicyError",
        False,
    ),
    (
        400,
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        "ContentPolicyError",
        False,
    ),
    (500, "Failed to parse tool call arguments as JSON: unexpected end of input", "RequestRejectedError", False),
    (
        500,
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "RequestRejectedError",
        False,
    ),
    (
        400,
        "Unable to generate parser for this template. Jinja Exception: After the optional system message, conversation "
        "roles must alternate user/assistant",
        "RequestRejectedError",
        False,
    ),
    (500, "Error rendering prompt with jinja template: roles must alternate", "RequestRejectedError", False),
]


@pytest.mark.parametrize(("status", "text", "kind", "retryable"), KINDS)
def test_every_row_of_the_table(status: int, text: str, kind: str, retryable: bool) -> None:
    error = failures.from_answer(WHERE, status, said(text) if text else "")
    assert type(error).__name__ == kind
    assert error.retryable is retryable
    assert error.status == status
    assert (error.provider, error.model, error.base_url) == (WHERE.provider, WHERE.model, WHERE.base_url)


def test_insufficient_quota_is_told_by_its_code() -> None:
    error = failures.from_answer(WHERE, 429, said("sorry", type="insufficient_quota", code="insufficient_quota"))
    assert type(error).__name__ == "QuotaExceededError"
    assert not error.retryable


def test_a_text_that_only_mentions_a_status_word_keeps_its_status() -> None:
    # an ordinary rate limit speaks of the model, of billing pages and of keys
    text = (
        "Rate limit reached for model gpt-4o. Visit https://platform.example/account/billing to add a payment method."
    )
    error = failures.from_answer(WHERE, 429, said(text, type="requests", code="rate_limit_exceeded"))
    assert type(error).__name__ == "RateLimitError"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"error": "text only"}', "text only"),
        ('{"detail": "Server is pinned"}', "Server is pinned"),
        ('{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
        ('[{"error": {"message": "in a list", "status": "INVALID"}}]', "in a list"),
        ("<html><head><style>p{}</style></head><body><h1>502</h1> Bad Gateway</body></html>", "502 Bad Gateway"),
        ("", "empty body"),
        ("null", ""),
        ("[]", ""),
        ("17", "17"),
        ('{"error": {"message": {"deep": 1}}}', "deep"),
        ('{"message": "flat", "type": "x"}', "flat"),
        ('{"error": {"code": 400}}', "400"),
    ],
)
def test_any_body_is_read(body: str, shown: str) -> None:
    error = failures.from_answer(WHERE, 400, body)
    assert isinstance(error, ProviderError)
    assert shown in str(error)


def test_a_huge_body_is_read_quickly() -> None:
    started = time.process_time()
    error = failures.from_answer(WHERE, 400, "input context token prompt message " * 4000)
    assert time.process_time() - started < 0.5
    assert len(str(error)) < 1500


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "86400"}, failures.RETRY_AFTER_CAP_S),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, failures.RETRY_AFTER_CAP_S),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    error = failures.from_answer(WHERE, 429, said("slow"), headers)
    assert error.retry_after_s == seconds


def test_retry_after_as_a_date() -> None:
    in_20_s = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    seconds = failures.retry_after_s({"Retry-After": in_20_s})
    assert seconds is not None
    assert 17 < seconds <= 20
    assert failures.retry_after_s({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "bad key sk-secret-1 here",
        "Authorization: Bearer abc.def.ghi",
        "key sk-proj-AAAAAAAAAAAA",
        "AIzaSyA1234567890abcdefgh",
    ],
)
def test_no_key_reaches_the_text(text: str) -> None:
    error = failures.from_answer(WHERE, 401, said(text))
    shown = str(error) + repr(error) + repr(error.__dict__)
    for secret in ("sk-secret-1", "abc.def.ghi", "sk-proj-AAAAAAAAAAAA", "AIzaSyA1234567890abcdefgh"):
        assert secret not in shown


def test_all_kinds_pickle_and_name_the_place() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, ProviderError):
            error = WHERE.error(kind, "why", status=418, retry_after_s=1.0)
            again = pickle.loads(pickle.dumps(error))
            assert (type(again), str(again), again.status, again.base_url) == (kind, str(error), 418, WHERE.base_url)


@pytest.mark.parametrize(
    ("base_url", "hint"),
    [
        ("http://127.0.0.1:1234/v1", "LM Studio"),
        ("http://localhost:11434", "ollama serve"),
        ("http://127.0.0.1:8080/v1", "llama-server"),
        ("http://127.0.0.1:8000/v1", "vllm serve"),
        ("http://127.0.0.1:5555/v1", "start the model server"),
        ("https://models.example/v1", "check base_url"),
        (None, "check base_url"),
    ],
)
def test_nobody_there_says_what_to_start(base_url: str | None, hint: str) -> None:
    error = failures.unreachable(Where("tiny", "lm_studio", base_url), "refused")
    assert type(error).__name__ == "ServerUnreachableError"
    assert hint in str(error)
    assert error.original_error == "refused"


def test_a_server_that_speaks_no_tls_or_is_not_trusted_is_not_told_to_be_started() -> None:
    untrusted = str(failures.unreachable(WHERE, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"))
    assert "set SSL_CERT_FILE" in untrusted and "start" not in untrusted.partition("before the start")[0]
    assert "begin base_url with http://" in str(failures.unreachable(WHERE, "[SSL: WRONG_VERSION_NUMBER] wrong"))


def test_an_answer_that_does_not_fit_beside_the_prompt_is_called_so() -> None:
    text = (
        "This model's maximum context length is 4097 tokens. However, you requested 5010 tokens (4010 in the messages)"
    )
    error = failures.from_answer(WHERE, 400, text)
    assert "prompt and answer together do not fit the model's window: This model" in str(error)
