"""An HTTP client for servers that may be hostile: no redirect, a bound on time and on size.

EndpointParams -> the client that the OpenAI SDK sends its requests by
"""

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from r2a_core.config import EndpointParams
from r2a_core.openai_api.reply import ReplyError

if TYPE_CHECKING:
    from openai import DefaultAsyncHttpxClient

MOST_BYTES = 4 * 2**20  # of one reply: some times what 100,000 tokens take, their characters escaped


def bounded_http(endpoint: EndpointParams) -> "DefaultAsyncHttpxClient":
    """Returns an HTTP client that follows no redirect and ends each request in its time and MOST_BYTES.

    The time of one request is endpoint.timeout_seconds from connecting to the reply's last byte. Compressed replies,
    which show their size too late, are refused.
    """
    from openai import DefaultAsyncHttpxClient

    base: Any = DefaultAsyncHttpxClient.__base__
    http = import_module(base.__module__.partition(".")[0])  # httpx, or another of its name: the SDK's version decides

    class BoundedHttp(DefaultAsyncHttpxClient):
        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            try:
                async with asyncio.timeout(endpoint.timeout_seconds):
                    response = await super().send(request, stream=True, **options)
                    try:
                        content = await whole_content(response)
                    finally:
                        await response.aclose()
            except TimeoutError as error:
                raise http.ReadTimeout(str(error), request=request) from None
            except ReplyError as error:
                raise http.ReadError(str(error), request=request) from None
            return http.Response(response.status_code, headers=response.headers, content=content, request=request)

    return BoundedHttp(follow_redirects=False, trust_env=not endpoint.is_local)  # no proxy to this machine


async def whole_content(response: Any) -> bytes:
    """Reads the body of an HTTP response. Raises ReplyError when it is compressed or larger than MOST_BYTES."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ReplyError("a compressed reply, which was not asked for")
    content = bytearray()
    async for part in response.aiter_raw():
        content += part
        if len(content) > MOST_BYTES:
            raise ReplyError(f"a reply of more than {MOST_BYTES // 2**20} MiB")
    return bytes(content)
