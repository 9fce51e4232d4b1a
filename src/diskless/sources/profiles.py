"""AWS's configuration files, read in boto3's order: ``~/.aws/credentials``, then ``~/.aws/config``.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from diskless.errors import CredentialsError

# Ways to get credentials that only boto3 knows.
_NEEDS_BOTO3 = ("role_arn", "credential_process", "sso_session", "sso_start_url", "sso_account_id", "login_session")


@dataclass(frozen=True)
class Profile:
    """The settings of one profile, both files together; empty where there is none."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    services: Mapping[str, str] = field(default_factory=dict, repr=False)
    # Named by the caller or the environment, not taken because nothing else was said.
    asked: bool = False

    @property
    def needs_boto3(self) -> str | None:
        """The setting that only boto3 understands, if any."""
        return next((name for name in _NEEDS_BOTO3 if name in self.settings), None)

    @property
    def assumes_role(self) -> bool:
        """Whether it names a role to be assumed with other credentials; boto3 does that before all else."""
        return "role_arn" in self.settings and "web_identity_token_file" not in self.settings

    @property
    def addressing_style(self) -> str | None:
        """``path``, ``virtual`` or ``auto``, where the profile says so."""
        return _nested(self.settings.get("s3", ""), "addressing_style")

    @property
    def endpoint(self) -> str | None:
        """Where S3 is: the word of the profile's ``services`` section, else of the profile itself."""
        return _nested(self.services.get("s3", ""), "endpoint_url") or self.settings.get("endpoint_url")


def read_profile(name: str | None) -> Profile:
    """Return profile `name`, or the one that the environment names, or ``default``.

    Raises CredentialsError when a profile that was asked for is in neither file: it is never skipped silently.
    """
    asked = name or os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE")
    wanted = asked or "default"
    credentials_file = _path("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    config_file = _path("AWS_CONFIG_FILE", "~/.aws/config")
    config, services = _config(_sections(config_file))
    from_config, from_credentials = config.get(wanted), _sections(credentials_file).get(wanted)
    if asked is not None and from_config is None and from_credentials is None:
        raise CredentialsError(f"the profile {asked!r} is neither in {credentials_file} nor in {config_file}")
    settings = {**(from_config or {}), **(from_credentials or {})}
    return Profile(wanted, settings, services.get(settings.get("services", ""), {}), asked is not None)


def _path(variable: str, default: str) -> str:
    return os.path.expanduser(os.environ.get(variable) or default)


_Sections = dict[str, dict[str, str]]


def _config(sections: _Sections) -> tuple[_Sections, _Sections]:
    """Return the profiles and the services of ``~/.aws/config``, whose sections are ``[profile "name"]``."""
    import shlex

    profiles: _Sections = {}
    services: _Sections = {}
    for section, settings in sections.items():
        try:
            words = shlex.split(section)
        except ValueError:  # a quote that does not end
            continue
        if words == ["default"]:
            profiles["default"] = settings
        elif len(words) == 2 and words[0] == "profile":
            profiles[words[1]] = settings
        elif len(words) == 2 and words[0] == "services":
            services[words[1]] = settings
    return profiles, services


def _sections(path: str) -> _Sections:
    if not os.path.isfile(path):
        return {}
    import configparser

    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    problem = ""
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        problem = type(error).__name__
    if problem:
        # The parser's own error quotes the line, which may hold a secret: it must not even be the context of ours.
        raise CredentialsError(f"{path} cannot be read ({problem}); is it a valid AWS file?")
    return {section: dict(parser[section]) for section in parser.sections()}


def _nested(block: str, name: str) -> str | None:
    """Return a setting of an indented block."""
    for line in block.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == name:
            return value.strip() or None
    return None
