"""What the Loader heeds of the user's environment: its own is that of the moment it was started."""

from __future__ import annotations

import os

# As curl and requests have them; the lower case wins.
PROXIES = tuple(
    name for plain in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (plain, plain.upper())
)
# Where a place says how it gives credentials; see ambient.py.
PLACES = (
    "AWS_CA_BUNDLE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


def captured() -> dict[str, str]:
    """Return these variables as they are now, to be sent to the Loader."""
    return {name: os.environ[name] for name in (*PROXIES, *PLACES) if name in os.environ}
