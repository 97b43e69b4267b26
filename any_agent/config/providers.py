"""Who serves models: names and aliases, default addresses, own environment variables; and what a base URL means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    Attributes: base_url (its OpenAI-compatible endpoint; None: only LiteLLM speaks its protocol), base_env and key_env
    (its own environment variables), hosts (ends of the host names that its accounts have).
    """

    name: str
    base_url: str | None = None
    base_env: tuple[str, ...] = ()
    key_env: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    is_local: bool = False


def _local(name: str, base_url: str, variable: str, *more_base_env: str) -> Provider:
    return Provider(name, base_url, (f"{variable}_API_BASE", *more_base_env), (f"{variable}_API_KEY",), is_local=True)


def _cloud(
    name: str, base_url: str | None, *key_env: str, base_env: tuple[str, ...] = (), hosts: tuple[str, ...] = ()
) -> Provider:
    return Provider(name, base_url, base_env, key_env or (f"{name.upper()}_API_KEY",), hosts)


PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        _local("lm_studio", "http://localhost:1234/v1", "LM_STUDIO"),
        _local("ollama", "http://localhost:11434/v1", "OLLAMA", "OLLAMA_HOST"),
        _local("llamacpp", "http://localhost:8080/v1", "LLAMAFILE"),
        _local("vllm", "http://localhost:8000/v1", "HOSTED_VLLM"),
        _cloud("openai", "https://api.openai.com/v1", base_env=("OPENAI_BASE_URL", "OPENAI_API_BASE")),
        _cloud("anthropic", None, base_env=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"), hosts=("api.anthropic.com",)),
        _cloud(
            "gemini",
            None,
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            base_env=("GEMINI_API_BASE",),
            hosts=(".googleapis.com",),
        ),
        _cloud(
            "azure",
            None,
            "AZURE_API_KEY",
            "AZURE_OPENAI_API_KEY",
            base_env=("AZURE_API_BASE",),
            hosts=(".openai.azure.com", ".cognitiveservices.azure.com"),
        ),
        _cloud("azure_ai", None, base_env=("AZURE_AI_API_BASE",), hosts=(".ai.azure.com",)),
        _cloud("bedrock", None, "AWS_BEARER_TOKEN_BEDROCK", hosts=(".amazonaws.com",)),
        Provider("vertex_ai", hosts=(".googleapis.com",)),
        Provider("sagemaker", hosts=(".amazonaws.com",)),
        _cloud("cohere", None, "COHERE_API_KEY", "CO_API_KEY", hosts=("api.cohere.com", "api.cohere.ai")),
        _cloud("replicate", None, "REPLICATE_API_KEY", "REPLICATE_API_TOKEN", hosts=("api.replicate.com",)),
        _cloud("huggingface", None, "HF_TOKEN", "HUGGINGFACE_API_KEY", hosts=(".huggingface.co", ".huggingface.cloud")),
        _cloud(
            "databricks", None, base_env=("DATABRICKS_API_BASE",), hosts=(".databricks.com", ".azuredatabricks.net")
        ),
        _cloud("watsonx", None, "WATSONX_APIKEY", "WATSONX_API_KEY", base_env=("WATSONX_URL",), hosts=(".ibm.com",)),
        _cloud("mistral", "https://api.mistral.ai/v1", base_env=("MISTRAL_API_BASE",)),
        _cloud("groq", "https://api.groq.com/openai/v1", base_env=("GROQ_API_BASE",)),
        _cloud("deepseek", "https://api.deepseek.com/v1", base_env=("DEEPSEEK_API_BASE",)),
        _cloud("openrouter", "https://openrouter.ai/api/v1", base_env=("OPENROUTER_API_BASE",)),
        _cloud("together_ai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),
        _cloud("xai", "https://api.x.ai/v1", base_env=("XAI_API_BASE",)),
        _cloud("fireworks_ai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"),
        _cloud("perplexity", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
        _cloud("cerebras", "https://api.cerebras.ai/v1"),
        _cloud("moonshot", "https://api.moonshot.ai/v1", base_env=("MOONSHOT_API_BASE",)),
        _cloud("nvidia_nim", "https://integrate.api.nvidia.com/v1", base_env=("NVIDIA_NIM_API_BASE",)),
    )
}

ALIASES: dict[str, str] = {
    "lmstudio": "lm_studio",
    "ollama_chat": "ollama",
    "llama_cpp": "llamacpp",
    "llama.cpp": "llamacpp",
    "llamafile": "llamacpp",
    "hosted_vllm": "vllm",
    "google": "gemini",
    "together": "together_ai",
    "fireworks": "fireworks_ai",
    "vertex": "vertex_ai",
}

# Promised spelling: the names and addresses that `get_base_url(provider=…)` knows.
PROVIDER_DEFAULTS: dict[str, str] = {
    name: PROVIDERS[ALIASES.get(name, name)].base_url or ""
    for name in (
        "lmstudio",
        "lm_studio",
        "ollama",
        "llamacpp",
        "llama_cpp",
        "llama.cpp",
        "llamafile",
        "vllm",
        "hosted_vllm",
    )
}

# LiteLLM sends these to api.openai.com when no base URL is given.
NEEDS_BASE_URL = ("custom_openai", "litellm_proxy", "openai_like", "xinference")

# Ports that belong to one server only; 8080 and 8000 are everybody's.
_PORTS = {1234: "lm_studio", 11434: "ollama"}
_BARE_NAMES = (
    (re.compile(r"(ft:)?(gpt-(?!oss|j|neo)|chatgpt|o[134](-|$))"), "openai"),
    (re.compile(r"claude"), "anthropic"),
    (re.compile(r"gemini"), "gemini"),
)


def canonical_provider(name: str) -> str:
    """`LM-Studio`, `lmstudio` → `lm_studio`; an unknown name comes back in lower case."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    return ALIASES.get(plain, plain)


def known_provider(name: str | None) -> Provider | None:
    """The provider of that name or alias."""
    return PROVIDERS.get(canonical_provider(name)) if name else None


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or ''."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""


def provider_of_url(url: str | None) -> str | None:
    """Whose address this is: a cloud's own host over https, or a port that one local server is known by."""
    if not url:
        return None
    parts = urlsplit(url)
    for provider in PROVIDERS.values():
        if provider.base_url and not provider.is_local and parts.scheme == "https":
            own = urlsplit(provider.base_url)
            if parts.netloc.lower() in (own.netloc, f"{own.netloc}:443"):
                return provider.name
    return _PORTS.get(parts.port or 0)


def may_carry_account(provider: str | None) -> bool:
    """Whether LiteLLM may sign in there with what lies on the machine (AWS, Google, …), not only with a key."""
    known = PROVIDERS.get(provider or "")
    return provider is not None and (known is None or known.base_url is None)


def is_own_host(provider: Provider, url: str) -> bool:
    """Whether a URL is one of the provider's own hosts, over https."""
    parts = urlsplit(url)
    host = f".{(parts.hostname or '').lower()}"
    return parts.scheme == "https" and (
        (not provider.is_local and provider_of_url(url) == provider.name)
        or any(host.endswith(end if end.startswith(".") else f".{end}") for end in provider.hosts)
    )


def split_model(
    model: str, provider: str | None, base_url: str | None, *, knows_bare_names: bool = True
) -> tuple[str | None, str]:
    """Read a model string.

    Args:
        model: e.g. `ollama/llama3.1`, `qwen/qwen3-30b`, `gpt-4o`.
        provider: as given by the user, canonical; None when not given.
        base_url: as given by the user, normalised; a provider's default does not count.
        knows_bare_names: whether `gpt-4o` means OpenAI, `claude…` Anthropic, `gemini…` Google.

    Returns:
        (provider or None, the id that the server is asked for).
    """
    prefix, slash, rest = model.partition("/")
    named = canonical_provider(prefix) if slash and rest else ""
    if named == "openrouter" and "/" not in rest:  # openrouter/auto is an id of OpenRouter's own
        rest = model
    if provider:
        return provider, rest if named == provider else model
    if named == "openai" and rest.startswith("gpt-oss"):  # open weights that carry the maker's name; OpenAI serves none
        named = ""
    known = PROVIDERS.get(named)
    if known and not _is_part_of_id(known, base_url):
        # "openai/x" with a base URL means the protocol, not the cloud
        return (provider_of_url(base_url) if base_url and named == "openai" else known.name), rest
    if base_url:
        return provider_of_url(base_url), model
    if knows_bare_names and not slash:
        for pattern, owner in _BARE_NAMES:
            if pattern.match(model.lower()):
                return owner, model
    return None, model


def _is_part_of_id(prefix: Provider, base_url: str | None) -> bool:
    """Servers have ids such as `deepseek/deepseek-r1`: at another's base URL the prefix belongs to the id."""
    if base_url is None or prefix.is_local or prefix.base_url is None:
        return False
    owner = provider_of_url(base_url)
    if owner == prefix.name:
        return False
    return prefix.name != "openai" or owner == "openrouter"


# ------------------------------------------------------------------ base URLs


def is_near(host: str) -> bool:
    """Whether a host is this machine or a private network."""
    host = host.strip("[]").lower()
    if "." not in host and ":" not in host:
        return True  # localhost, a container's name
    if host.endswith((".localhost", ".local", ".lan", ".internal", ".home.arpa")):
        return True
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_link_local


def normalise_base_url(url: str, provider: str | None = None) -> str:
    """One spelling: with scheme, without trailing slash and `/chat/completions`, with `/v1` for local servers.

    Raises:
        ConfigurationError: it is no http(s) URL, or holds a password or a query.
    """
    text = url.strip()
    if "://" not in text:
        host = _parts(f"http://{text}", url).hostname or ""
        text = f"{'http' if is_near(host) else 'https'}://{text}"
    parts = _parts(text, url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    known = known_provider(provider)
    speaks_openai = known is None or known.base_url is not None
    if not path and ((known and known.is_local) or (speaks_openai and is_near(parts.hostname or ""))):
        path = "/v1"
    return f"{parts.scheme.lower()}://{parts.netloc}{path}"


def _parts(text: str, written: str) -> SplitResult:
    def wrong(why: str, shown: str) -> ConfigurationError:
        allowed = "http(s)://host[:port][/path]"
        return ConfigurationError(
            f"base_url {shown!r} {why}; it must look like {allowed}", field="base_url", value=shown, allowed=allowed
        )

    shown = re.sub(r"//[^/@]*@", "//***@", written) if "://" in written else re.sub(r"^[^/@]*@", "***@", written)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise wrong(f"is no URL ({error})", shown) from None
    if parts.scheme.lower() not in ("http", "https"):
        raise wrong("does not begin with http:// or https://", shown)
    if not parts.hostname or port == 0 or re.search(r"[\s\\<>\"]", text):
        raise wrong("is no URL", shown)
    if "@" in parts.netloc:
        raise wrong("holds a user name or password (give the key as api_key)", shown)
    if parts.query or parts.fragment:
        raise wrong("holds a query or fragment", shown)
    return parts


def read_ollama_host(value: str) -> str:
    """OLLAMA_HOST as a client reads it: port 11434 when none is said, and 0.0.0.0 means this machine."""
    text = value.strip().rstrip("/")
    scheme, mark, rest = text.rpartition("://")
    host, slash, path = rest.partition("/")
    if host.startswith(":"):
        host = f"localhost{host}"
    bare = host.rsplit("]", 1)[-1] if host.startswith("[") else host
    if ":" not in bare and not mark:
        host = f"{host or 'localhost'}:11434"
    host = re.sub(r"^(0\.0\.0\.0|\[::\])(?=:|$)", "localhost", host)
    return f"{scheme or 'http'}://{host}{slash}{path}"


def proxy_for(base_url: str) -> str | None:
    """The proxy of the environment; never for this machine (a proxy would break loopback)."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    if not proxies:
        return None
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass_environment(host, proxies):
        return None
    return proxies.get(parts.scheme)
