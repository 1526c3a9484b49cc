"""`SearchIndex` and servers that answer badly, or not at all: one request for each call, and the error that its callers expect."""

import asyncio

import pytest

from reference_impl.search.index import IndexRefused, IndexUnavailable, SearchIndex
from reference_impl.settings import Settings

JSON = "application/json; charset=UTF-8"
SILENCE = None


def answer_of(status, body, content_type=JSON):
    head = f"HTTP/1.1 {status} because\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def error_and_requests(answer, call):
    """What ``call`` (a coroutine function of a `SearchIndex`) raises, and the requests of a server that always answers so."""
    requests, serving = [], []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        requests.append((await reader.readuntil(b"\r\n\r\n")).partition(b" HTTP/")[0].decode())
        if answer is SILENCE:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async def run():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
            index = SearchIndex(Settings(elasticsearch_url=url, search_timeout_s=0.3))
            try:
                with pytest.raises((IndexUnavailable, IndexRefused)) as raised:
                    await call(index)
            finally:
                await index.close()
            await asyncio.gather(*serving, return_exceptions=True)
        return raised.value

    return asyncio.run(run()), requests


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (SILENCE, "ReadTimeout"),
        (b"", "RemoteProtocolError"),
        (answer_of(200, b'{"hits": {"total"'), "Unable to deserialize"),
        (answer_of(200, b"what", "image/png"), "Unknown mimetype"),
        (answer_of(503, b'{"error": {"type": "no_shard_available_action_exception"}}'), "no_shard_available"),
        (answer_of(503, b"<html>a balancer's", "text/html"), "503 <html>a balancer's"),
        (answer_of(429, b'{"error": {"type": "es_rejected_execution_exception"}}'), "rejected_execution"),
    ],
    ids=["silence", "hung up", "half an answer", "an image", "no shard", "a balancer", "busy"],
)
def test_what_may_pass_is_unavailable_and_left_to_the_caller_to_try_again(answer, text):
    error, requests = error_and_requests(answer, lambda index: index.count("posts"))
    assert isinstance(error, IndexUnavailable)
    assert text in str(error)
    assert requests == ["POST /flashcrowd-posts/_search?allow_partial_search_results=false"]


def test_our_own_mistake_is_refused():
    answer = answer_of(400, b'{"error": {"type": "parsing_exception"}, "status": 400}')
    error, requests = error_and_requests(answer, lambda index: index.refresh("posts"))
    assert isinstance(error, IndexRefused)
    assert "/flashcrowd-posts/_refresh: 400" in str(error) and "parsing_exception" in str(error)
    assert requests == ["POST /flashcrowd-posts/_refresh"]


def test_where_nobody_listens_it_is_unavailable():
    async def check():
        index = SearchIndex(Settings(elasticsearch_url="http://127.0.0.1:1"))
        try:
            await index.check()
        finally:
            await index.close()

    with pytest.raises(IndexUnavailable, match="ConnectError"):
        asyncio.run(check())
