"""What the store's notifications say, whatever their format, and how a file is cut; no server."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impl.uploads import rules
from reference_impl.uploads.events import created_media
from reference_impl.uploads.store import media_id_of, object_key
from tests.reference_impl.media import MIB, filer_event


def s3_event(*keys, name="s3:ObjectCreated:CompleteMultipartUpload", bucket="media"):
    records = [
        {
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1", "eventName": name,
            "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": bucket}, "object": {"key": key, "size": 1}},
        }
        for key in keys
    ]  # fmt: skip
    return json.dumps({"Records": records}).encode()


def test_both_formats_tell_the_same():
    assert created_media(filer_event(7), "media") == [7]
    assert created_media(s3_event("uploads/7", "uploads%2F8"), "media") == [7, 8]
    assert created_media(s3_event("uploads/7", name="ObjectCreated:Put"), "media") == [7]  # AWS leaves the s3: out
    minio = json.loads(s3_event("uploads/9")) | {"EventName": "s3:ObjectCreated:Put", "Key": "media/uploads/9"}
    assert created_media(json.dumps(minio).encode(), "media") == [9]
    renamed = {
        "event_type": "rename", "key": "/buckets/media/.uploads/x",
        "message": {"new_parent_path": "/buckets/media/uploads", "new_entry": {"name": "12"}},
    }  # fmt: skip
    assert created_media(json.dumps(renamed).encode(), "media") == [12]


@pytest.mark.parametrize(
    "event",
    [
        s3_event("uploads/7", name="s3:ObjectRemoved:Delete"),
        s3_event("uploads/7", bucket="another"),
        s3_event("uploads/../7", "other/7", "uploads/", "uploads/7/8", "uploads/-7", "uploads/7.jpg", "7"),
        b'{"event_type": "delete", "key": "/buckets/media/uploads/7"}',
        b'{"event_type": "create", "key": "/buckets/another/uploads/7"}',
        b'{"event_type": "create", "key": "/buckets/media/.uploads/abc/0001.part"}',
        b'{"event_type": "create", "key": "/etc/passwd"}',
    ],
)
def test_noise_tells_of_nothing(event):
    assert created_media(event, "media") == []


@given(st.from_regex(r"(uploads/)?-?[0-9]{0,22}[./]?[0-9]?") | st.text())
def test_no_other_key_is_taken_for_an_upload(text):
    found = media_id_of(text)
    assert found is None or object_key(found) == text


@given(st.integers(0, 10**18 - 1))
def test_every_upload_is_found_by_its_key(media_id):
    assert media_id_of(object_key(media_id)) == media_id


@given(st.integers(rules.LEAST_BYTES, rules.MOST_BYTES), st.integers(5 * MIB, 100 * MIB))
def test_parts_make_up_the_file_and_are_not_too_many(size_bytes, wanted_bytes):
    each = rules.part_bytes(size_bytes, wanted_bytes)
    lengths = rules.part_lengths(size_bytes, each)
    assert sum(lengths) == size_bytes
    assert len(lengths) <= rules.MOST_PARTS
    assert each >= wanted_bytes
