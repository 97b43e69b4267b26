"""A misspelt model name: the error that says so also names the nearest model that is live on that server."""

from __future__ import annotations

from ...errors import AnyAgentError, ModelNotFoundError, ProviderError
from .shapes import nearest_model

SHOWN_MODELS = 5


async def with_nearest(
    error: ProviderError, base_url: str | None, model: str, api_key: str | None = None, *, timeout_s: float = 1.0
) -> ProviderError:
    """The same error; one that says the model is not there also says which one may be meant, or what there is.

    The server is asked for its models only then. Never raises; without an answer the error stays as it is.

    Args:
        timeout_s: seconds for each request of the look-up.
    """
    if not isinstance(error, ModelNotFoundError) or base_url is None:
        return error
    from . import probe

    try:
        server = await probe(base_url, api_key=api_key, provider=error.provider, timeout_s=timeout_s)
    except AnyAgentError:
        return error
    if server is None or server.takes_any_name:
        return error
    names = [one.id for one in server.models]
    near = nearest_model(model, [server])
    if model in names:
        return error
    if near:
        hint = f" (did you mean {near!r}?)"
    elif 0 < len(names) <= SHOWN_MODELS:
        hint = f" (it has {', '.join(map(repr, names))})"
    else:
        return error
    first, newline, rest = error.message.partition("\n")  # lists of failed tries show first lines only
    error.message = f"{first}{hint}{newline}{rest}"
    error.args = (error.message,)
    return error
