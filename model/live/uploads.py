"""Uploads of the live platform: pending from their beginning, published from the instant their object was found good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from model.live.asked import Asked, Outcome
from model.live.posts import LivePosts
from model.scenario import Scenario
from model.uploads import LEAST_BYTES, MEDIA_TYPES, MOST_BYTES, READY, part_lengths

_MOST_MEDIA = 1e7  # keys of users' own caches are apart


@dataclass
class Upload:
    """One upload; `received` has the length of each stored part by its number."""

    number: int
    owner: int
    title: str
    content: str
    media_type: str
    size_bytes: int
    lengths: list[int]
    begun_s: float
    received: dict[int, int] = field(default_factory=dict)
    completed: bool = False
    post: int | None = None

    @property
    def whole(self) -> bool:
        """Whether every part is stored."""
        return len(self.received) == len(self.lengths)

    def status(self) -> dict[str, Any]:
        """As the owner sees it."""
        return {
            "id": self.number,
            "post_id": self.post,
            "status": "pending" if self.post is None else "success",
            "reason": None,
            "view_url": f"/v1/media/{self.number}",
        }

    def urls(self) -> dict[str, Any]:
        """Where its parts go."""
        path = f"/media/uploads/{self.number}"
        parts = [
            {"number": number, "size_bytes": length, "url": f"{path}?partNumber={number}"}
            for number, length in enumerate(self.lengths, 1)
        ]
        return {"parts": parts, "list_url": path, "complete_url": path}


class LiveUploads:
    """All uploads. `fan_out` tells what publishing a user's post sets going, and `began_s` when the upload began whose
    completion a request was.
    """

    goes_on = frozenset({"uploads.complete"})

    def __init__(self, scenario: Scenario, posts: LivePosts, fan_out: Callable[[Asked], dict[str, float]]) -> None:
        self.part_bytes = scenario.uploads.part_bytes
        self.posts, self.fan_out = posts, fan_out
        self.uploads: dict[int, Upload] = {}
        self.by_key: dict[tuple[int, str], Upload] = {}
        self.began_s: dict[tuple[str, int], float] = {}

    def attributes(self, asked: Asked) -> dict[str, float]:
        """How many bytes are sent or fetched, and which file is looked at; a completion also publishes."""
        match asked.operation:
            case "uploads.part":
                return {"media_bytes": float(asked.arguments["bytes"])}
            case "uploads.view":
                media = int(asked.arguments["media"])
                upload = self.uploads.get(media)
                seen = float(asked.user) * _MOST_MEDIA + media
                return {"media": float(media), "media_bytes": float(upload.size_bytes if upload else 0), "seen_media": seen}
            case "uploads.complete":
                upload = self.uploads.get(int(asked.arguments["upload"]))
                if upload is not None and upload.whole and not upload.completed:  # only the first completion publishes
                    upload.completed = True
                    asked.kept["upload"] = upload
                    publishing = Asked(asked.operation, upload.owner, {}, None)
                    attributes = self.fan_out(publishing)
                    asked.kept |= publishing.kept
                    return attributes
        return {}

    def answer(self, asked: Asked, now_s: float) -> Outcome:
        """The URLs of a new upload, how one stands, or that a part is stored."""
        arguments = asked.arguments
        if asked.operation == "uploads.begin":
            return self._begin(asked.user, arguments, now_s)
        upload = self.uploads.get(int(arguments["media" if asked.operation == "uploads.view" else "upload"]))
        if upload is None:
            return Outcome("not_found", {})
        match asked.operation:
            case "uploads.status":
                return Outcome("ok", upload.status()) if upload.owner == asked.user else Outcome("not_found", {})
            case "uploads.view":
                return Outcome("ok" if upload.post is not None else "not_found", {})
            case "uploads.part":
                number = str(arguments.get("partNumber"))
                lengths = dict(enumerate(upload.lengths, 1))
                if not number.isdecimal() or lengths.get(int(number)) != arguments["bytes"]:
                    return Outcome("invalid", {})
                upload.received[int(number)] = arguments["bytes"]
        if asked.operation == "uploads.complete":
            if not upload.whole:
                return Outcome("invalid", {})
            self.began_s[READY.name, asked.request] = upload.begun_s
        return Outcome("ok", {})

    def _begin(self, user: int, arguments: dict[str, Any], now_s: float) -> Outcome:
        media_type, size_bytes = str(arguments["media_type"]), int(arguments["size_bytes"])
        if media_type not in MEDIA_TYPES or not LEAST_BYTES <= size_bytes <= MOST_BYTES:
            return Outcome("invalid", {})
        upload = self.by_key.get((user, arguments["key"]))
        if upload is None:
            title, content = str(arguments["title"]), str(arguments["content"])
            lengths = part_lengths(size_bytes, self.part_bytes)
            upload = Upload(len(self.uploads) + 1, user, title, content, media_type, size_bytes, lengths, now_s)
            self.uploads[upload.number] = self.by_key[user, arguments["key"]] = upload
        elif (upload.media_type, upload.size_bytes) != (media_type, size_bytes):
            return Outcome("invalid", {})
        return Outcome("ok", upload.status() | (upload.urls() if upload.post is None else {}))

    def marked(self, milestone: str, asked: Asked, ordinal: int, now_s: float) -> None:
        """The object was found good: its post is published."""
        upload = asked.kept.get("upload")
        if upload is not None:
            post = self.posts.publish(upload.owner, now_s, upload.title, upload.content)
            asked.kept["post"] = post
            upload.post = -post.minus_id
