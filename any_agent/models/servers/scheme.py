"""https:// to a server that speaks plain HTTP: the error that says so, where it can be found out."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from ...config.providers import proxy_for
from ...errors import ProviderTimeoutError, ServerUnreachableError
from ..failures import Where


async def with_scheme(error: Exception, where: Where, *, timeout_s: float = 1.0) -> Exception:
    """The same error, or one that says that no TLS is spoken there. Never raises.

    Such servers mostly wait for the rest of what they take for a request, so it looks as if nobody answered. Asked is
    only the address that the user named, without key or prompt.

    Args:
        timeout_s: seconds for each of the two looks.
    """
    url = where.base_url or ""
    may_be = isinstance(error, (ServerUnreachableError, ProviderTimeoutError)) and not error.delivered_chars
    if not may_be or not url.startswith("https://") or proxy_for(url) is not None:
        return error
    try:
        is_plain = await asyncio.wait_for(_speaks_plain_http(url), timeout_s)
        if not is_plain or await _speaks_tls(url, timeout_s):
            return error
    except (OSError, ValueError, asyncio.TimeoutError):
        return error
    said = (
        f"the server there speaks plain HTTP, no TLS.\n  fix: begin base_url with http:// ({url.replace('s', '', 1)})."
    )
    told = where.error(ServerUnreachableError, said)
    told.retry_limit = 0  # once more would help nobody
    return told


async def _speaks_tls(url: str, timeout_s: float) -> bool:
    """Some ports take both; what is slow there must not be called plain."""
    parts = urlsplit(url)
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # nothing is said after the handshake
    try:
        opened = asyncio.open_connection(parts.hostname, parts.port or 443, ssl=anybody)
        _, writer = await asyncio.wait_for(opened, timeout_s)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True


async def _speaks_plain_http(url: str) -> bool:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 443)
    try:
        writer.write(f"GET / HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        await writer.drain()
        version, status, *_ = [*(await reader.readline()).split(maxsplit=2), b"", b""]
        # 400, or a redirect, is what a server that speaks TLS says to it, in plain HTTP too
        return version.startswith(b"HTTP/") and status.isdigit() and status != b"400" and status[:1] != b"3"
    finally:
        writer.close()
