"""S3's answers without namespaces, however they are written."""

from __future__ import annotations

import pytest

from diskless.sources import xml

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@pytest.mark.parametrize(
    "body",
    [
        "<List><Key>k</Key></List>",
        f'<List xmlns="{NAMESPACE}"><Key>k</Key></List>',
        f'<?xml version="1.0" encoding="UTF-8"?>\n<List xmlns="{NAMESPACE}"><Key>k</Key></List>',
        f"<?xml version='1.0'?><List xmlns='{NAMESPACE}'><Key>k</Key></List>",
        f'<s3:List xmlns:s3="{NAMESPACE}"><s3:Key>k</s3:Key></s3:List>',
        f'<List a="1" xmlns="{NAMESPACE}"><Key>k</Key></List>',
    ],
)
def test_names_have_no_namespace(body: str) -> None:
    root = xml.parse(body.encode())
    assert root.tag == "List" and xml.text(root, "Key") == "k"


def test_a_key_that_looks_like_a_namespace_stays_as_it_is() -> None:
    key = f' xmlns="{NAMESPACE}"'
    assert xml.text(xml.parse(f"<List><Key>{key}</Key></List>".encode()), "Key") == key


def test_what_is_no_xml_is_an_error() -> None:
    with pytest.raises(ValueError):
        xml.parse(b"<html>")
