"""Buckets of S3 and of storage that speaks like it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from typing import Any

from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError
from fsspec.asyn import sync
from s3fs import S3FileSystem

from core.storage.session import Found, LoginRefused, RemoteAway, RemoteBroken, RemoteDenied, RemoteFile, RemoteMissing

# By botocore, with growing waits. Not again by s3fs around it: what fails three times parks, which waits longer.
_TRIES = 3
_PAGE = 1000
_CONNECT_S = 5
_READ_S = 30
_LOGIN_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
)
_NO_LOGIN = "the worker's S3 credentials are missing or refused: see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY there"
_SECOND_NS = 10**9


def connect_s3(bucket: str) -> "S3Session":
    """Make a session; credentials, region and endpoint come from the environment, as for all of AWS's programs."""
    config = {
        "connect_timeout": _CONNECT_S,
        "read_timeout": _READ_S,
        "retries": {"total_max_attempts": _TRIES, "mode": "standard"},
    }
    files = S3FileSystem(skip_instance_cache=True, use_listings_cache=False, config_kwargs=config)
    files.retries = 1
    return S3Session(files, bucket)


class S3Session:
    """One bucket. Folders are what lies between slashes of keys."""

    def __init__(self, files: Any, bucket: str) -> None:
        self._files = files
        self._bucket = bucket

    def list_level(self, path: bytes) -> Iterator[Found]:
        """List page by page, memory flat."""
        prefix = f"{path.decode()}/" if path else ""
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": _PAGE}
        while True:
            with _translated():
                page = self._files.call_s3("list_objects_v2", **request)
            for folder in page.get("CommonPrefixes", ()):
                yield Found(folder["Prefix"][len(prefix) : -1].encode(), "folder")
            for found in page.get("Contents", ()):
                # A key that ends in a slash stands for its folder.
                if found["Key"] != prefix:
                    name = found["Key"][len(prefix) :].encode()
                    yield Found(name, "file", found["Size"], _time(found["LastModified"], found["ETag"]))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    @contextmanager
    def open(self, path: bytes) -> Iterator[RemoteFile]:
        """Open an object with one request."""
        with _translated():
            answer = self._files.call_s3("get_object", Bucket=self._bucket, Key=path.decode())
            try:
                yield _Object(self._files.loop, answer)
            finally:
                answer["Body"].close()


class _Object:
    """An object that is being read."""

    def __init__(self, loop: Any, answer: Any) -> None:
        self.size = int(answer["ContentLength"])
        self.mtime_ns = _time(answer["LastModified"], answer["ETag"])
        self._loop = loop
        self._body = answer["Body"]

    def read(self, number: int) -> bytes:
        data: bytes = sync(self._loop, self._body.read, number)
        return data


def _time(modified: datetime, etag: str) -> int:
    """Make nanoseconds of a time in whole seconds and the content's tag.

    Of two versions that were written within a second only the tag tells that they differ.
    """
    tag = int.from_bytes(blake2b(etag.strip('"').encode(), digest_size=8).digest(), "big")
    return int(modified.timestamp()) * _SECOND_NS + tag % _SECOND_NS


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise RemoteMissing("there is no such object or bucket") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise LoginRefused(_NO_LOGIN) from error
    except PermissionError as error:
        if _code(error) in _LOGIN_CODES:
            raise LoginRefused(_NO_LOGIN) from error
        raise RemoteDenied("the worker's S3 credentials may not read this") from error
    except (BotoCoreError, HttpError, TimeoutError) as error:
        raise RemoteAway(f"S3 does not answer ({type(error).__name__})") from error
    except OSError as error:
        code = _code(error)
        if code in _LOGIN_CODES:
            raise LoginRefused(_NO_LOGIN) from error
        if error.errno == errno.EINVAL:
            raise RemoteBroken(f"S3 refuses to give this ({code})") from error
        raise RemoteAway(f"S3 does not answer ({code})") from error


def _code(error: OSError) -> str:
    answer = getattr(error.__cause__, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", type(error).__name__))
