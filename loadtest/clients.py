"""Three clients on the model: a transport for `HttpUser`, one for `FastHttpUser`, and a lean session for our own users.

The first two replace only what goes over the network, so that a stock locustfile runs unchanged. The lean session has
the surface of `FastHttpSession` without URLs, cookies, redirects and encodings, which the model has no use for: about
twice the requests per wall second of FastHttpUser.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import requests
from geventhttpclient.header import Headers
from locust.contrib.fasthttp import LocustBadStatusCode
from locust.exception import CatchResponseError, LocustError, ResponseError
from requests.structures import CaseInsensitiveDict

from loadtest.gateway import Answer, Gateway

JSON_HEADERS = {"Content-Type": "application/json"}


class _Installed:
    """Where the transports find the gateway of the test that is running."""

    gateway: Gateway | None = None


def use_gateway(used: Gateway | None) -> None:
    """Send the requests of all three clients to this gateway from now on."""
    _Installed.gateway = used


def gateway() -> Gateway:
    """The gateway of the test that is running. Raises `ConnectionRefusedError` outside of one."""
    if _Installed.gateway is None:
        raise ConnectionRefusedError("the model is not running: a request was made outside of a test")
    return _Installed.gateway


class ModelAdapter(requests.adapters.BaseAdapter):
    """The transport of `HttpUser`: answers from the model, in the objects of the library requests."""

    def __init__(self, pool_manager: Any = None, *_args: Any, **_options: Any) -> None:
        super().__init__()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Perform a prepared request. Raises requests' own `ReadTimeout` and `ConnectionError`."""
        timeout_s = timeout[1] if isinstance(timeout, tuple) else timeout
        try:
            answer = gateway().call(request.method or "GET", request.path_url, request.body, request.headers, timeout_s)
        except TimeoutError as error:
            raise requests.ReadTimeout(error, request=request) from None
        except OSError as error:
            raise requests.ConnectionError(error, request=request) from None
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(JSON_HEADERS)
        response.encoding = "utf-8"
        response.raw = io.BytesIO(answer.content)
        response.reason = ""
        response.url = request.url or ""
        response.request = request
        if not stream:
            _ = response.content  # read now, as Session.send would
        return response

    def close(self) -> None:
        """Nothing is open."""


class _FastAnswer:
    """What `FastResponse` and Locust's error paths read of geventhttpclient's response."""

    version = "HTTP/1.1"
    status_message = msg = _sent_request = ""

    def __init__(self, answer: Answer) -> None:
        self._content = io.BytesIO(answer.content)
        self._headers_index = Headers(JSON_HEADERS)
        self.status_code = answer.status
        self.length = len(self._content.getvalue())

    def get_code(self) -> int:
        return self.status_code

    def read(self, size: int | None = None) -> bytes:
        return self._content.read(size)

    def release(self) -> None:
        """There is no connection to give back."""


def fast_urlopen(agent: Any, request: Any) -> Any:
    """The transport of `FastHttpUser`, in place of `LocustUserAgent._urlopen`. Raises `TimeoutError`."""
    answer = gateway().call(
        request.method,
        request.url_split.request_uri,
        request.payload,
        request.headers,
        agent.clientpool.client_args.get("network_timeout"),
    )
    return agent.response_type(_FastAnswer(answer), request=request, sent_request="")


class LeanResponse:
    """The answer to a lean request, with the surface of Locust's `FastResponse` and its context manager."""

    def __init__(self, answer: Answer | None, error: Exception | None, meta: dict[str, Any], event: Any) -> None:
        self.request_meta = meta
        self.error = error
        self._answer = answer
        self._event = event
        self._entered = False
        self._manual: Exception | bool | None = None
        self.status_code = answer.status if answer else 0

    @property
    def ok(self) -> bool:
        """Whether the status is below 400, as Locust's own clients define it."""
        return self.status_code < 400

    @property
    def url(self) -> str:
        """Where the request went."""
        return str(self.request_meta["url"])

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every answer of the model."""
        return JSON_HEADERS

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        return self._answer.content if self._answer else b""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode()

    def json(self) -> Any:
        """The body as data. Raises `ValueError` when there is none."""
        if self._answer is None or self._answer.body is None:
            raise ValueError("the answer has no body")
        return self._answer.body

    def raise_for_status(self) -> None:
        """Raise the request's error, if there is one."""
        if isinstance(self._manual, Exception):
            raise self._manual
        if self.error is not None and self._manual is not True:
            raise self.error

    def success(self) -> None:
        """Count the request as a success whatever its status."""
        self._mark(True)

    def failure(self, reason: Any) -> None:
        """Count the request as a failure for this reason."""
        self._mark(reason if isinstance(reason, Exception) else CatchResponseError(reason))

    def _mark(self, result: Exception | bool) -> None:
        if not self._entered:
            raise LocustError("success() and failure() need a with-block and catch_response=True")
        self._manual = result

    def __enter__(self) -> LeanResponse:
        self._entered = True
        return self

    def __exit__(self, kind: Any, value: BaseException | None, trace: Any) -> bool:
        meta = self.request_meta
        if self._manual is not None:
            meta["exception"] = None if self._manual is True else self._manual
            self._event.fire(**meta)
            return kind is None
        if value is not None:
            if not isinstance(value, ResponseError):
                return False
            meta["exception"] = value
        self._event.fire(**meta)
        return True


class LeanSession:
    """The client of our own users on the model: `request`, `get`, `post`, `put`, `patch` and `delete`."""

    def __init__(self, base_url: str, request_event: Any, user: Any, timeout_s: float | None) -> None:
        self.base_url = base_url
        self.request_event = request_event
        self.user = user
        self.timeout_s = timeout_s
        self.request_name: str | None = None

    @contextmanager
    def rename_request(self, name: str) -> Iterator[None]:
        """Give the requests of a with-block this name in the statistics."""
        self.request_name = name
        try:
            yield
        finally:
            self.request_name = None

    def request(
        self,
        method: str,
        url: str,
        name: str | None = None,
        data: Any = None,
        catch_response: bool = False,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        context: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        allow_redirects: bool = True,
    ) -> LeanResponse:
        """Perform one request; the model never redirects. See `FastHttpSession.request` for the parameters."""
        path = url.removeprefix(self.base_url)
        if params:
            path = f"{path}{'&' if '?' in path else '?'}{urlencode(params)}"
        start_time = time.time()
        sent_s = time.perf_counter()
        answer: Answer | None = None
        error: Exception | None = None
        try:
            answer = gateway().call(method, path, json if data is None else data, headers, self.timeout_s)
        except OSError as failure:  # TimeoutError among them
            error = failure
        response_time_ms = (time.perf_counter() - sent_s) * 1000
        if answer is not None and answer.status >= 400:
            error = LocustBadStatusCode(f"{self.base_url}{path}", code=answer.status)
        meta: dict[str, Any] = {
            "request_type": method,
            "name": name or self.request_name or url,
            "context": {**self.user.context(), **(context or {})},
            "response": None,
            "exception": error,
            "start_time": start_time,
            "url": f"{self.base_url}{path}",
            "response_length": len(answer.content) if answer else 0,
            "response_time": response_time_ms,
        }
        meta["response"] = response = LeanResponse(answer, error, meta, self.request_event)
        if not catch_response:
            self.request_event.fire(**meta)
        return response

    def get(self, url: str, **options: Any) -> LeanResponse:
        """A GET request."""
        return self.request("GET", url, **options)

    def delete(self, url: str, **options: Any) -> LeanResponse:
        """A DELETE request."""
        return self.request("DELETE", url, **options)

    def post(self, url: str, data: Any = None, **options: Any) -> LeanResponse:
        """A POST request."""
        return self.request("POST", url, data=data, **options)

    def put(self, url: str, data: Any = None, **options: Any) -> LeanResponse:
        """A PUT request."""
        return self.request("PUT", url, data=data, **options)

    def patch(self, url: str, data: Any = None, **options: Any) -> LeanResponse:
        """A PATCH request."""
        return self.request("PATCH", url, data=data, **options)
