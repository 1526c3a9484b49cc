"""The object store by its standard protocol, S3: presigned URLs for clients, and the few calls that we make ourselves.

boto3 rather than aiobotocore: signing needs no network, what does is rare (once or twice an upload) and runs in a thread,
and boto3 does not tie us to one version of its core. It is imported when a store is made: whoever needs only this module's
names need not wait for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from reference_impl.settings import Settings

PREFIX = "uploads/"
HEALTH_KEY, HEALTH_BYTES = "health", 8192
"""More than a file's last page may have room for, and nothing that could be compressed."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 1.0, 4.0
THREADS = 8
"""Our own, so that a store that hangs holds up nothing else."""
Result = TypeVar("Result")


class StoreUnavailable(OSError):
    """The object store does not answer, or not as it should."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    began_at: datetime


def object_key(media_id: int) -> str:
    """Where an upload lies in the bucket."""
    return f"{PREFIX}{media_id}"


def media_id_of(key: str) -> int | None:
    """The opposite of :func:`object_key`; None if it is no key of ours."""
    text = key.removeprefix(PREFIX)
    media_id = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
    return media_id if object_key(media_id) == key else None


class ObjectStore:
    """One bucket. Methods raise :class:`StoreUnavailable`; what is not there is None or no error."""

    def __init__(self, settings: Settings) -> None:
        import boto3
        from botocore.config import Config

        self._bucket = settings.s3_bucket
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._client = boto3.client(
            "s3",
            endpoint_url=settings.s3_url or None,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key or None,
            aws_secret_access_key=settings.s3_secret_key or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if settings.s3_url else "auto"},
                retries={"total_max_attempts": 2},
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                max_pool_connections=THREADS,
                # A checksum in the signature would have to be known before the client has read the file.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    # ---- for clients, without network
    def part_url(self, key: str, upload_id: str, number: int, length_bytes: int, expires_s: int) -> str:
        """``PUT`` one part there; of this length and no other, since the length is signed."""
        return self._signed(
            "upload_part", expires_s, Key=key, UploadId=upload_id, PartNumber=number, ContentLength=length_bytes
        )

    def complete_url(self, key: str, upload_id: str, expires_s: int) -> str:
        """``POST`` the list of parts there."""
        return self._signed("complete_multipart_upload", expires_s, Key=key, UploadId=upload_id)

    def list_url(self, key: str, upload_id: str, expires_s: int) -> str:
        """``GET`` the parts that are stored already."""
        return self._signed("list_parts", expires_s, Key=key, UploadId=upload_id)

    def view_url(self, key: str, media_type: str, expires_s: int) -> str:
        """``GET`` the object."""
        return self._signed("get_object", expires_s, Key=key, ResponseContentType=media_type)

    def _signed(self, call: str, expires_s: int, **parameters: Any) -> str:
        url: str = self._client.generate_presigned_url(call, {"Bucket": self._bucket, **parameters}, expires_s)
        return url

    # ---- our own calls
    async def begin(self, key: str, media_type: str) -> str:
        """Begin a multipart upload; return its id."""
        answer = await self._call(
            lambda: self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=media_type)
        )
        assert answer is not None  # a bucket that is missing is an error, not an absence
        return str(answer["UploadId"])

    async def size_bytes(self, key: str) -> int | None:
        """The object's real size; None if there is none."""
        answer = await self._call(lambda: self._client.head_object(Bucket=self._bucket, Key=key))
        return None if answer is None else int(answer["ContentLength"])

    async def first_bytes(self, key: str, count: int) -> bytes:
        """The beginning of the object; empty if there is none."""

        def read() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{count - 1}")
            return bytes(answer["Body"].read(count))

        return await self._call(read) or b""

    async def delete(self, key: str) -> None:
        """Delete the object; nothing happens if there is none."""
        await self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    async def abort(self, key: str, upload_id: str) -> None:
        """Forget a multipart upload and its parts; nothing happens if it is over."""
        await self._call(
            lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        )

    async def unfinished(self) -> list[Unfinished]:
        """Every multipart upload under our prefix that was neither completed nor aborted."""

        def read() -> list[Unfinished]:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=PREFIX)
            return [
                Unfinished(upload["Key"], upload["UploadId"], upload["Initiated"])
                for page in pages
                for upload in page.get("Uploads", ())
            ]

        return await self._call(read) or []

    async def check(self) -> None:
        """Write a small object: a store whose disk is full answers every question, and takes nothing."""
        data = os.urandom(HEALTH_BYTES)
        if await self._call(lambda: self._client.put_object(Bucket=self._bucket, Key=HEALTH_KEY, Body=data)) is None:
            raise StoreUnavailable(f"there is no bucket {self._bucket}")

    def create_bucket(self) -> None:
        """Create the bucket unless it is there."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.create_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise StoreUnavailable(str(error)) from error
        except BotoCoreError as error:
            raise StoreUnavailable(str(error)) from error

    async def _call(self, call: Callable[[], Result]) -> Result | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise StoreUnavailable(str(error)) from error
        except BotoCoreError as error:
            raise StoreUnavailable(str(error)) from error
