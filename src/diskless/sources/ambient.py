"""Credentials that the place a process runs in gives it: web identity, a container's endpoint, an instance's.

Sources: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html,
https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html,
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from diskless.errors import CredentialsError
from diskless.sources.http import Endpoint, proxy_for, request
from diskless.sources.spec import Credentials

_CONTAINER_HOST = "http://169.254.170.2"
_INSTANCE_HOST = "http://169.254.169.254"
# Where a container's token may go without TLS, as in boto3: a variable set by others must not send it further.
_CONTAINER_HOSTS = {"localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"}
_LOCAL_TIMEOUT_S = 1.0  # boto3's: no instance answers later
_STS_TIMEOUT_S = 10.0


def ambient_credentials(environment: Mapping[str, str], region: str | None) -> Credentials:
    """Return what web identity, else the container, else the instance gives; CredentialsError where none does."""
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return _web_identity(environment, region)
    if environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or environment.get(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    ):
        return _container(environment)
    if environment.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        found = _instance(environment)
        if found is not None:
            return found
    raise CredentialsError(
        "no credentials were found: not in storage_options, session=, AWS_ACCESS_KEY_ID, ~/.aws, web identity, the "
        "container's or the instance's endpoint. For a public bucket use storage_options={'anon': True}"
    )


def _web_identity(environment: Mapping[str, str], region: str | None) -> Credentials:
    role, path = environment.get("AWS_ROLE_ARN"), environment["AWS_WEB_IDENTITY_TOKEN_FILE"]
    if not role:
        raise CredentialsError("AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not")
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except OSError as error:
        raise CredentialsError(f"the web identity token cannot be read: {error.strerror}: {path}") from None
    form = urlencode(
        {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": role,
            "RoleSessionName": environment.get("AWS_ROLE_SESSION_NAME") or "diskless",
            "WebIdentityToken": token,
        }
    )
    regional = f"https://sts.{region}.{domain(region)}" if region else "https://sts.amazonaws.com"
    url = (environment.get("AWS_ENDPOINT_URL_STS") or environment.get("AWS_ENDPOINT_URL") or regional).rstrip("/")
    endpoint = Endpoint(url, environment.get("AWS_CA_BUNDLE"), proxy=proxy_for(url, environment))
    headers = {"content-type": "application/x-www-form-urlencoded"}
    status, _, body = request(endpoint, "POST", "/", headers, form.encode(), timeout_s=_STS_TIMEOUT_S)
    text = body.decode("utf-8", "replace")
    if status != 200:
        code = re.search(r"<Code>([^<]*)</Code>", text)
        raise CredentialsError(f"the role {role} was not given to this web identity: {code[1] if code else status}")
    values = {name: re.search(f"<{name}>([^<]*)</{name}>", text) for name in _STS_FIELDS}
    key, secret, session, expiration = (match[1] if match else "" for match in values.values())
    if not (key and secret):
        raise CredentialsError(f"the answer for the role {role} holds no credentials")
    return Credentials(key, secret, session, _moment(expiration))


_STS_FIELDS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


def _container(environment: Mapping[str, str]) -> Credentials:
    relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = _CONTAINER_HOST + relative if relative else environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    parts = urlsplit(url)
    host, path = parts.netloc.rpartition("@")[2], parts.path + (f"?{parts.query}" if parts.query else "")
    if parts.scheme != "https" and parts.hostname not in _CONTAINER_HOSTS:
        raise CredentialsError(f"AWS_CONTAINER_CREDENTIALS_FULL_URI is http:// to a host that is not local: {host}")
    headers = {}
    token_file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    if token_file:
        try:
            with open(token_file, encoding="utf-8") as file:
                headers["authorization"] = file.read().strip()
        except OSError as error:
            raise CredentialsError(f"the container's token cannot be read: {error.strerror}: {token_file}") from None
    elif environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"):
        headers["authorization"] = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    endpoint = Endpoint(f"{parts.scheme}://{host}")
    status, _, body = request(endpoint, "GET", path or "/", headers, timeout_s=_LOCAL_TIMEOUT_S, attempts=3)
    if status != 200:
        raise CredentialsError(f"the container's credentials endpoint {host} answered {status}")
    return _from_json(body, f"the container's credentials endpoint {host}")


def _instance(environment: Mapping[str, str]) -> Credentials | None:
    """Ask the instance metadata service, version 2; None where there is none."""
    endpoint = Endpoint(environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/") or _INSTANCE_HOST)
    base = "/latest/meta-data/iam/security-credentials/"
    try:
        status, _, body = request(
            endpoint,
            "PUT",
            "/latest/api/token",
            {"x-aws-ec2-metadata-token-ttl-seconds": "21600"},
            timeout_s=_LOCAL_TIMEOUT_S,
            attempts=1,
        )
        if status != 200:
            return None
        headers = {"x-aws-ec2-metadata-token": body.decode("ascii", "replace")}
        status, _, body = request(endpoint, "GET", base, headers, timeout_s=_LOCAL_TIMEOUT_S)
        if status != 200:
            return None
        role = body.decode("utf-8", "replace").split("\n")[0].strip()
        status, _, body = request(endpoint, "GET", base + role, headers, timeout_s=_LOCAL_TIMEOUT_S)
    except ConnectionError:
        return None
    if status != 200:
        raise CredentialsError(f"the instance metadata service gave no credentials for the role {role}: {status}")
    return _from_json(body, "the instance metadata service")


def _from_json(body: bytes, where: str) -> Credentials:
    try:
        found: dict[str, Any] = json.loads(body)
        return Credentials(
            found["AccessKeyId"], found["SecretAccessKey"], found.get("Token"), _moment(found.get("Expiration"))
        )
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(f"{where} answered with something that is no credentials") from None


def domain(region: str) -> str:
    """Return the domain of AWS's endpoints in a region."""
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _moment(text: str | None) -> float | None:
    if not text:
        return None
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
