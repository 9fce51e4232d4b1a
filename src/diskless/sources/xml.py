"""What S3 answers in XML, without namespaces."""

from __future__ import annotations

import re
from typing import Any

# The root element up to its namespace: where that is gone no name has one, and none of a million has to be changed.
_NAMESPACED = re.compile(rb'(\s*(?:<\?xml[^>]*>)?\s*<\w+)\s+xmlns="[^"]*"')


def parse(body: bytes) -> Any:
    """Return the root element; ValueError where this is no XML."""
    import xml.etree.ElementTree as ElementTree

    found = _NAMESPACED.match(body)
    try:
        root = ElementTree.fromstring(found[1] + body[found.end() :] if found else body)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    if not found:
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
    return root


def text(element: Any, name: str) -> str:
    """Return the text of the child of that name; empty where there is none."""
    found = element.find(name)
    return (found.text or "") if found is not None else ""
