"""What S3 answers in XML, without namespaces."""

from __future__ import annotations

from typing import Any


def parse(body: bytes) -> Any:
    """Return the root element; ValueError where this is no XML."""
    import xml.etree.ElementTree as ElementTree

    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text(element: Any, name: str) -> str:
    """Return the text of the child of that name; empty where there is none."""
    found = element.find(name)
    return (found.text or "") if found is not None else ""
