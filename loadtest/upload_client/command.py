"""`flashcrowd upload FILE`: upload a photo or video as a post, with a progress bar. The same command resumes."""

from __future__ import annotations

import argparse
import json
import mimetypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from loadtest.upload_client.client import File

PASSWORD = "FLASHCROWD_PASSWORD"
EXAMPLES = """examples:
  flashcrowd upload holiday.mp4 --user 7              to the reference that is up on this machine
  flashcrowd upload cat.jpg --login user7 --api http://127.0.0.1:8000 --title "My cat" --json
  flashcrowd upload holiday.mp4 --user 7 --again      as another post, though it was uploaded before
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 64")
    return int(text)


def _user(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} is no user's number")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    made = _Parser(
        "flashcrowd upload", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    made.add_argument("file", type=Path)
    who = made.add_mutually_exclusive_group(required=True)
    who.add_argument("--login", metavar="NAME", help=f"whose post it is; the password is asked for, or {PASSWORD}")
    who.add_argument("--user", type=_user, metavar="N", help="the same by id, for those who have the platform's secret: the "
                     "reference that is up here, or FLASHCROWD_TOKEN_SECRET")
    made.add_argument("--api", metavar="URL", help="of the platform (the reference that is up here)")
    made.add_argument("--title", help="of the post (the file's name)")
    made.add_argument("--media-type", metavar="TYPE", help="such as video/mp4 (by the file's name)")
    made.add_argument("--parallel", type=_count, default=4, metavar="P", help="parts sent at once (4)")
    made.add_argument("--attempts", type=_count, default=6, metavar="A", help="for each part (6)")
    made.add_argument("--wait-s", type=float, default=30.0, metavar="T", help="for the post to be published (30)")
    made.add_argument("--again", action="store_true", help="a new post, rather than resuming the last one of this file")
    made.add_argument("--json", action="store_true", help="print the upload's status as JSON")
    return made


def _headers(arguments: argparse.Namespace, api_url: str) -> dict[str, str]:
    """Who we are. Raises `UploadFailed`, `NoSecret`."""
    from loadtest.tokens import bearer

    if arguments.user is not None:
        return bearer(arguments.user)
    from getpass import getpass

    from loadtest.upload_client.client import open_session

    password = os.environ.get(PASSWORD) or getpass(f"password of {arguments.login}: ")
    return {"Authorization": f"Bearer {open_session(api_url, arguments.login, password)}"}


def _file(arguments: argparse.Namespace) -> File:
    from loadtest.upload_client.client import File

    path: Path = arguments.file
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    media_type = arguments.media_type or mimetypes.guess_type(path.name)[0]
    if media_type is None:
        raise ValueError(f"{path}: its name does not tell its type; say --media-type, such as video/mp4")
    return File(path, media_type, arguments.title or path.stem)


def _upload(arguments: argparse.Namespace, file: File, api_url: str) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from loadtest.upload_client.client import UploadClient, file_key

    who = arguments.login if arguments.user is None else arguments.user
    salt = f"{who}/{os.urandom(8).hex() if arguments.again else ''}"
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    headers = _headers(arguments, api_url)
    with (
        UploadClient(api_url, headers, parallel=arguments.parallel, attempts=arguments.attempts) as client,
        Progress(*columns, console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task(file.path.name, total=file.path.stat().st_size)
        begun = client.upload(file, file_key(file.path, salt), lambda count: bar.advance(task, count))
        bar.update(task, completed=file.path.stat().st_size, description=f"{file.path.name}: being checked")
        return client.wait_until_ready(begun["id"], arguments.wait_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Upload: 0 published, 1 refused or failed, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    from loadtest.tokens import NoSecret, running_state
    from loadtest.upload_client.client import UploadFailed

    try:
        api_url = arguments.api or running_state().get("api_url")
        if api_url is None:
            raise ValueError("nothing is up on this machine; say --api URL, or: flashcrowd reference up")
        if not api_url.startswith(("http://", "https://")):
            raise ValueError(f"--api {api_url}: it has to begin with http:// or https://")
        file = _file(arguments)
    except ValueError as error:
        print(f"flashcrowd upload: {error}", file=sys.stderr)
        return 2
    try:
        status = _upload(arguments, file, api_url)
    except NoSecret as error:
        print(f"flashcrowd upload: --user: {error}; or log in: --login NAME", file=sys.stderr)
        return 2
    except UploadFailed as error:
        print(f"flashcrowd upload: {error}", file=sys.stderr)
        return 2 if error.refused else 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    if arguments.json:
        print(json.dumps(status))
    elif status["status"] == "success":
        print(f"post {status['post_id']}: {status['view_url']}")
    if status["status"] != "success":
        told = status["reason"] or "the store has not told of it yet; it will be published when it does"
        print(f"flashcrowd upload: {status['status']}: {told}", file=sys.stderr)
    return 0 if status["status"] == "success" else 1
