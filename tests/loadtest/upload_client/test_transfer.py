"""The client's protocol, without network."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.upload_client.transfer import Transfer, completion_error, listed_parts

S3 = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def answer(*lengths, status="pending"):
    parts = [{"number": n, "size_bytes": length, "url": f"http://s/{n}"} for n, length in enumerate(lengths, 1)]
    return {"id": 7, "status": status, "parts": parts, "list_url": "http://s/list", "complete_url": "http://s/complete"}


def listing(*parts, namespace=S3):
    rows = "".join(
        f"<Part><ETag>&#34;{etag}&#34;</ETag><PartNumber>{number}</PartNumber><Size>{size}</Size></Part>"
        for number, etag, size in parts
    )
    return f'<?xml version="1.0"?>\n<ListPartsResult {namespace}><Key>uploads/7</Key>{rows}</ListPartsResult>'.encode()


def test_an_upload_that_is_over_has_nothing_to_send():
    assert Transfer.of({"id": 7, "status": "success"}) is None
    assert Transfer.of({"id": 7, "status": "refused", "reason": "x"}) is None


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=100))
def test_parts_lie_one_behind_the_other(lengths):
    transfer = Transfer.of(answer(*lengths))
    assert [part.offset for part in transfer.parts] == [sum(lengths[:n]) for n in range(len(lengths))]
    assert transfer.missing == list(transfer.parts)
    assert transfer.stored_bytes == 0


@pytest.mark.parametrize("namespace", [S3, ""])
def test_what_the_store_has_is_not_sent_again(namespace):
    transfer = Transfer.of(answer(10, 10, 5))
    transfer.resume(listing((1, "a", 10), (3, "c", 5), namespace=namespace))
    assert [part.number for part in transfer.missing] == [2]
    assert transfer.stored_bytes == 15
    with pytest.raises(ValueError, match="1 parts are missing"):
        transfer.completion()
    transfer.etags[2] = '"b"'
    parts = [tuple(field.text for field in part) for part in ElementTree.fromstring(transfer.completion())]
    assert parts == [("1", '"a"'), ("2", '"b"'), ("3", '"c"')]


def test_a_stored_part_of_another_length_is_sent_again():
    transfer = Transfer.of(answer(10, 10))
    transfer.resume(listing((1, "a", 9), (2, "b", 10), (3, "c", 10)))
    assert [part.number for part in transfer.missing] == [1]
    assert set(transfer.etags) == {2}


def test_a_completion_may_fail_with_status_200():
    assert completion_error(b"") is None
    assert completion_error(f"<CompleteMultipartUploadResult {S3}><Key>k</Key></CompleteMultipartUploadResult>".encode()) is None
    error = b"<Error><Code>InternalError</Code><Message>again, please</Message></Error>"
    assert completion_error(error) == "InternalError: again, please"


@pytest.mark.parametrize("text", [b"not xml", b"<a", b"{}"])
def test_no_xml_is_a_clear_error(text):
    with pytest.raises(ValueError, match="no XML"):
        listed_parts(text)
    with pytest.raises(ValueError, match="no XML"):
        completion_error(text)
