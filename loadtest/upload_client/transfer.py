"""An upload as the client sees it: which parts there are, which are stored, and how to say that all are. No network here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree


@dataclass(frozen=True)
class Part:
    """One part of a file: `size_bytes` from `offset` go to `url`, a presigned one, by PUT."""

    number: int
    offset: int
    size_bytes: int
    url: str


@dataclass
class Transfer:
    """A pending upload. `etags` has what the store said of each stored part, by the part's number."""

    upload_id: int
    parts: tuple[Part, ...]
    list_url: str
    complete_url: str
    etags: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Transfer | None:
        """The transfer that an answer of `uploads.begin` asks for; None if the upload is over already."""
        if answer["status"] != "pending":
            return None
        parts, offset = [], 0
        for part in answer["parts"]:
            parts.append(Part(part["number"], offset, part["size_bytes"], part["url"]))
            offset += part["size_bytes"]
        return cls(answer["id"], tuple(parts), answer["list_url"], answer["complete_url"])

    @property
    def missing(self) -> list[Part]:
        """What has still to be sent, in order."""
        return [part for part in self.parts if part.number not in self.etags]

    @property
    def stored_bytes(self) -> int:
        """How much the store has."""
        return sum(part.size_bytes for part in self.parts if part.number in self.etags)

    def resume(self, listing: bytes) -> None:
        """Take note of the parts that the store has already, from its answer to `list_url`; one of a wrong length is not one."""
        lengths = {part.number: part.size_bytes for part in self.parts}
        for number, etag, size_bytes in listed_parts(listing):
            if lengths.get(number) == size_bytes:
                self.etags[number] = etag

    def completion(self) -> bytes:
        """The body for `complete_url`. Raises `ValueError` while parts are missing."""
        if self.missing:
            raise ValueError(f"{len(self.missing)} parts are missing")
        root = ElementTree.Element("CompleteMultipartUpload")
        for number in sorted(self.etags):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = self.etags[number]
        return ElementTree.tostring(root)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def listed_parts(listing: bytes) -> list[tuple[int, str, int]]:
    """(number, etag, bytes) of each part in an answer of S3's ListParts. Raises `ValueError` if it is no such answer."""
    found = []
    for element in _parsed(listing):
        if _local(element.tag) == "Part":
            fields = {_local(child.tag): child.text or "" for child in element}
            found.append((int(fields["PartNumber"]), fields["ETag"], int(fields["Size"])))
    return found


def completion_error(answer: bytes) -> str | None:
    """What an answer of S3's CompleteMultipartUpload complains of; None if it is content.

    S3 begins to answer 200 before it has assembled the object, so an error may come with that status.
    """
    if not answer.strip():
        return None
    root = _parsed(answer)
    if _local(root.tag) != "Error":
        return None
    fields = {_local(child.tag): child.text or "" for child in root}
    return f"{fields.get('Code', 'Error')}: {fields.get('Message', '')}"


def _parsed(text: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"the store's answer is no XML: {error}") from None
