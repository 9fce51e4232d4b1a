"""AWS's configuration files, read in boto3's order: ``~/.aws/credentials``, then ``~/.aws/config``.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from diskless.errors import CredentialsError

# Ways to get credentials that only boto3 knows.
_NEEDS_BOTO3 = ("role_arn", "credential_process", "sso_session", "sso_start_url", "sso_account_id", "login_session")


@dataclass(frozen=True)
class Profile:
    """The settings of one profile, both files together; empty where there is none."""

    name: str
    settings: Mapping[str, str]
    services: Mapping[str, str]

    @property
    def needs_boto3(self) -> str | None:
        """The setting that only boto3 understands, if any."""
        return next((name for name in _NEEDS_BOTO3 if name in self.settings), None)


def read_profile(name: str | None) -> Profile:
    """Return profile `name`, or the one that AWS_PROFILE names, or ``default``.

    Raises CredentialsError when a profile that was asked for is in neither file: it is never skipped silently.
    """
    asked = name or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    wanted = asked or "default"
    credentials_file = _path("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    config_file = _path("AWS_CONFIG_FILE", "~/.aws/config")
    config, credentials = _sections(config_file), _sections(credentials_file)
    from_config = config.get("default" if wanted == "default" else f"profile {wanted}")
    if from_config is None and wanted == "default":
        from_config = config.get("profile default")
    from_credentials = credentials.get(wanted)
    if asked is not None and from_config is None and from_credentials is None:
        raise CredentialsError(f"the profile {asked!r} is neither in {credentials_file} nor in {config_file}")
    settings = {**(from_config or {}), **(from_credentials or {})}
    services = config.get(f"services {settings['services']}", {}) if "services" in settings else {}
    return Profile(wanted, settings, services)


def _path(variable: str, default: str) -> str:
    return os.path.expanduser(os.environ.get(variable) or default)


def _sections(path: str) -> dict[str, dict[str, str]]:
    if not os.path.isfile(path):
        return {}
    import configparser

    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        # The parser's own words would quote the line, which may hold a secret.
        raise CredentialsError(f"{path} cannot be read ({type(error).__name__}); is it a valid AWS file?") from None
    return {section: dict(parser[section]) for section in parser.sections()}


def service_setting(profile: Profile, name: str) -> str | None:
    """Return a setting of the service ``s3`` in the profile's ``services`` section (an indented block)."""
    for line in profile.services.get("s3", "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name:
            return value.strip() or None
    return None
