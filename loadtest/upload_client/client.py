"""Uploads over HTTP: parts in parallel by threads, each tried again by itself.

Nothing is kept on disk: the upload's idempotency key follows from the file (`file_key`), so that the same call after a crash
finds its upload, asks the store which parts it has, and sends the others.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from loadtest.upload_client.transfer import Part, Transfer, completion_error

CHUNK_BYTES = 256 * 1024
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.2, 10.0
POLL_S = 0.2
Progress = Callable[[int], None]
"""Called with the bytes that were sent since the last call; less than 0 when a part has to be sent again."""


class UploadFailed(Exception):
    """The upload did not succeed; the message is one line. Doing it again resumes it, unless it was `refused`."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True)
class File:
    """What is uploaded, and as what."""

    path: Path
    media_type: str
    title: str
    content: str = ""


def file_key(path: Path, salt: str = "") -> str:
    """An idempotency key: the same for the same unchanged file. With another `salt` it is another upload."""
    information = path.stat()
    text = f"{path.resolve()}\0{information.st_size}\0{information.st_mtime_ns}\0{salt}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def open_session(api_url: str, name: str, password: str, timeout_s: float = 30.0) -> str:
    """A token for whoever has this name and password. Raises `UploadFailed`."""
    try:
        answer = httpx.post(f"{api_url.rstrip('/')}/v1/sessions", json={"name": name, "password": password}, timeout=timeout_s)
    except httpx.HTTPError as error:
        raise UploadFailed(f"{api_url}: {error!r}") from error
    if answer.status_code != 201:
        raise UploadFailed(f"{name}: {_message(answer)}", refused=answer.status_code in (401, 422))
    return str(answer.json()["token"])


class UploadClient:
    """Uploads to the platform at `api_url`; `headers` say who we are. Safe to use from one thread at a time.

    `parallel` parts at once, `attempts` for each part; times in seconds. `transport` replaces httpx' own.
    """

    def __init__(
        self,
        api_url: str,
        headers: Mapping[str, str],
        *,
        parallel: int = 4,
        attempts: int = 6,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._headers = dict(headers)
        self._parallel = parallel
        self._attempts = attempts
        limits = httpx.Limits(max_connections=parallel + 1)
        self._client = httpx.Client(timeout=timeout_s, limits=limits, transport=transport)
        self._stop = threading.Event()

    def __enter__(self) -> UploadClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop sending; close the connections."""
        self._stop.set()
        self._client.close()

    def upload(self, file: File, key: str, progress: Progress = lambda _count: None) -> dict[str, Any]:
        """Upload `file` and complete it, or go on with what `key` began; returns the answer of `uploads.begin`.

        Raises:
            UploadFailed.
        """
        answer = self.begin(file, key)
        transfer = Transfer.of(answer)
        if transfer is None:
            return answer
        listing = self._ask("GET", transfer.list_url)
        if listing.status_code == 200:
            transfer.resume(listing.content)
        progress(transfer.stored_bytes)
        self._send_missing(file, key, transfer, progress)
        self._complete(transfer)
        return answer

    def begin(self, file: File, key: str) -> dict[str, Any]:
        """Ask for the upload and fresh URLs."""
        body = {
            "title": file.title, "content": file.content,
            "media_type": file.media_type, "size_bytes": file.path.stat().st_size,
        }  # fmt: skip
        answer = self._ask("POST", f"{self._api_url}/v1/uploads", json=body, headers={"Idempotency-Key": key})
        if answer.status_code != 201:
            raise UploadFailed(f"the platform refuses: {_message(answer)}", refused=400 <= answer.status_code < 500)
        begun: dict[str, Any] = answer.json()
        return begun

    def wait_until_ready(self, upload_id: int, within_s: float) -> dict[str, Any]:
        """The upload's status once it is not pending any more, or the pending one when the time is over."""
        deadline = time.monotonic() + within_s
        while True:
            answer = self._ask("GET", f"{self._api_url}/v1/uploads/{upload_id}")
            if answer.status_code != 200:
                raise UploadFailed(f"the platform does not know the upload: {_message(answer)}")
            status: dict[str, Any] = answer.json()
            if status["status"] != "pending" or time.monotonic() > deadline:
                return status
            time.sleep(POLL_S)

    # ---- parts
    def _send_missing(self, file: File, key: str, transfer: Transfer, progress: Progress) -> None:
        urls = _Urls(transfer, lambda: self.begin(file, key))
        missing = transfer.missing
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="part") as threads:
            sent = {threads.submit(self._send, file.path, part, urls, progress): part for part in missing}
            try:
                done, _ = wait(sent, return_when=FIRST_EXCEPTION)
                for future in done:
                    transfer.etags[sent[future].number] = future.result()
            except BaseException:  # Ctrl-C too: what is under way ends soon, what waits is not begun
                self._stop.set()
                threads.shutdown(cancel_futures=True)
                raise
        self._stop.clear()

    def _send(self, path: Path, part: Part, urls: _Urls, progress: Progress) -> str:
        """Send one part, again if it fails; return its etag."""
        reason = ""
        for attempt in range(self._attempts):
            if attempt:
                # Full jitter, so that parts that failed together do not come together again.
                self._stop.wait(random.uniform(0, min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**attempt)))
            if self._stop.is_set():
                break
            sent = _Counted(path, part, progress, self._stop)
            url = urls.of(part.number)
            try:
                answer = self._client.put(url, content=sent, headers={"Content-Length": str(part.size_bytes)})
            except (httpx.HTTPError, OSError, RuntimeError) as error:  # RuntimeError: the client was closed under us
                reason = repr(error)
            else:
                if answer.status_code == 200 and "etag" in answer.headers:
                    return answer.headers["etag"]
                reason = _message(answer)
                if answer.status_code == 403:
                    urls.renew(url)
            progress(-sent.count)
        raise UploadFailed(f"part {part.number} was not stored: {reason or 'interrupted'}; the same command resumes")

    def _complete(self, transfer: Transfer) -> None:
        answer = self._ask(
            "POST", transfer.complete_url, content=transfer.completion(), headers={"Content-Type": "application/xml"}
        )
        error = completion_error(answer.content) if answer.status_code == 200 else _message(answer)
        if error:
            raise UploadFailed(f"the store could not put the parts together: {error}")

    def _ask(self, method: str, url: str, headers: Mapping[str, str] | None = None, **options: Any) -> httpx.Response:
        """A small request, tried again while the other side does not answer or is busy."""
        ours = {**self._headers, **(headers or {})} if url.startswith(self._api_url + "/") else headers
        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            try:
                answer = self._client.request(method, url, headers=ours, **options)
            except httpx.HTTPError as error:
                if last:
                    raise UploadFailed(f"{method} {url.partition('?')[0]}: {error!r}") from error
            else:
                if last or answer.status_code not in (429, 500, 502, 503, 504):
                    return answer
            time.sleep(random.uniform(0, min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**attempt)))
        raise AssertionError("the last attempt returns or raises")


class _Urls:
    """Where the parts go; renewed for all of them when one has expired."""

    def __init__(self, transfer: Transfer, begin: Callable[[], dict[str, Any]]) -> None:
        self._urls = {part.number: part.url for part in transfer.parts}
        self._transfer = transfer
        self._begin = begin
        self._lock = threading.Lock()

    def of(self, number: int) -> str:
        return self._urls[number]

    def renew(self, refused: str) -> None:
        """Ask for new URLs, unless another part has done so since `refused` was given."""
        with self._lock:
            fresh = Transfer.of(self._begin()) if refused in self._urls.values() else None
            if fresh is not None:
                self._urls = {part.number: part.url for part in fresh.parts}
                self._transfer.complete_url = fresh.complete_url


class _Counted:
    """A part's bytes, read as they are sent; `count` of them so far."""

    def __init__(self, path: Path, part: Part, progress: Progress, stop: threading.Event) -> None:
        self._path, self._part, self._progress, self._stop = path, part, progress, stop
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(self._part.offset)
            while self.count < self._part.size_bytes:
                chunk = file.read(min(CHUNK_BYTES, self._part.size_bytes - self.count))
                if not chunk or self._stop.is_set():
                    raise OSError("the file became shorter" if not chunk else "interrupted")
                yield chunk
                self.count += len(chunk)
                self._progress(len(chunk))


def _message(answer: httpx.Response) -> str:
    """What an answer complains of, in one line: our API speaks JSON, the store XML."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        pass
    try:
        return completion_error(answer.content) or f"status {answer.status_code}"
    except ValueError:
        return f"status {answer.status_code}"
