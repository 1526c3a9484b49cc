"""`flashcrowd upload FILE`: upload a photo or video as a post, with a progress bar. The same command resumes."""

from __future__ import annotations

import argparse
import json
import mimetypes
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from loadtest.upload_client.client import File

EXAMPLES = """examples:
  flashcrowd upload holiday.mp4 --user 7              to the reference that is up on this machine
  flashcrowd upload cat.jpg --user 7 --api http://127.0.0.1:8000 --title "My cat" --json
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


def _parser() -> argparse.ArgumentParser:
    made = _Parser(
        "flashcrowd upload", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    made.add_argument("file", type=Path)
    made.add_argument("--user", type=int, required=True, metavar="N", help="whose post it is")
    made.add_argument("--api", metavar="URL", help="of the platform (the reference that is up here)")
    made.add_argument("--title", help="of the post (the file's name)")
    made.add_argument("--media-type", metavar="TYPE", help="such as video/mp4 (by the file's name)")
    made.add_argument("--parallel", type=_count, default=4, metavar="P", help="parts sent at once (4)")
    made.add_argument("--attempts", type=_count, default=6, metavar="A", help="for each part (6)")
    made.add_argument("--wait-s", type=float, default=30.0, metavar="T", help="for the post to be published (30)")
    made.add_argument("--again", action="store_true", help="a new post, rather than resuming the last one of this file")
    made.add_argument("--json", action="store_true", help="print the upload's status as JSON")
    return made


def _running_api() -> str | None:
    """The API of the reference that is up on this machine, as its state file says."""
    default = Path(tempfile.gettempdir()) / f"flashcrowd-{os.getuid()}" / "reference"
    folder = Path(os.environ.get("FLASHCROWD_STATE_DIR") or default)
    try:
        url: str = json.loads((folder / "state.json").read_text())["api_url"]
    except (OSError, ValueError, KeyError):
        return None
    return url


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

    salt = f"{arguments.user}/{os.urandom(8).hex() if arguments.again else ''}"
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    headers = {"X-User-Id": str(arguments.user)}
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
    from loadtest.upload_client.client import UploadFailed

    try:
        api_url = arguments.api or _running_api()
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
