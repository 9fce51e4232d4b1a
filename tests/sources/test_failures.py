"""What a refusal means: the table from HTTP status and S3's code to our errors."""

from __future__ import annotations

import pytest

from diskless.errors import (
    AccessDenied,
    CredentialsError,
    DisklessError,
    NotFound,
    ObjectChanged,
    SourceUnavailable,
    TransferError,
)
from diskless.sources import URL, Credentials, Object, SourceSpec
from diskless.sources.failures import failure, from_obstore

SPEC = SourceSpec(
    URL("s3", "models", "bert"), credentials=Credentials("AKIDPLANTED", "secret-planted", "token-planted")
)
ENTRY = Object("bert/a.bin", "a.bin", 10, '"1"', None, 0)


def _failure(status: int, code: str = "", more: str = "", **headers: str) -> DisklessError:
    body = f"<Error><Code>{code}</Code>{more}</Error>" if code else more
    return failure(SPEC, status, body, {name.replace("_", "-"): value for name, value in headers.items()}, "us-east-1")


EXPIRED = "the credentials are expired (400 {}); renew them, for instance with `aws sso login`"
REJECTED = "the credentials were not accepted ({}); check the key, its secret and that they belong to this endpoint"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (_failure(404, "NoSuchBucket"), NotFound, "no such bucket: s3://models"),
        (_failure(404, "NoSuchKey"), NotFound, "s3://models/bert does not exist (404 NoSuchKey)"),
        (_failure(404), NotFound, "s3://models/bert does not exist (404)"),
        (_failure(400, "ExpiredToken"), CredentialsError, EXPIRED.format("ExpiredToken")),
        (_failure(400, "TokenRefreshRequired"), CredentialsError, EXPIRED.format("TokenRefreshRequired")),
        (_failure(400, "RequestExpired"), CredentialsError, EXPIRED.format("RequestExpired")),
        (_failure(403, "InvalidAccessKeyId"), CredentialsError, REJECTED.format("403 InvalidAccessKeyId")),
        (_failure(403, "SignatureDoesNotMatch"), CredentialsError, REJECTED.format("403 SignatureDoesNotMatch")),
        (_failure(400, "InvalidToken"), CredentialsError, REJECTED.format("400 InvalidToken")),
        (_failure(401), CredentialsError, REJECTED.format("401")),
        (_failure(403, "RequestTimeTooSkewed"), CredentialsError, "the clock of this machine is off"),
        (
            _failure(403, "AccessDenied"),
            AccessDenied,
            "access denied (403 AccessDenied); may this caller list and read",
        ),
        (_failure(403, "AllAccessDisabled"), AccessDenied, "(403 AllAccessDisabled)"),
        (_failure(403), AccessDenied, "(s3:ListBucket, s3:GetObject)?"),
        (_failure(500, "InternalError"), SourceUnavailable, "the server answered 500 InternalError; what does"),
        (_failure(503, "SlowDown"), SourceUnavailable, "503 SlowDown; it may be overloaded: fewer loads"),
        (_failure(400, "RequestTimeout"), SourceUnavailable, "the server answered 400 RequestTimeout"),
        (_failure(429), SourceUnavailable, "the server answered 429"),
        (_failure(400, "InvalidRequest"), TransferError, "the server answered 400 InvalidRequest"),
        (_failure(418), TransferError, "s3://models/bert: the server answered 418"),
    ],
)
def test_each_refusal_has_its_class_and_words(error, kind, said):
    assert type(error) is kind
    assert said in str(error)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (_failure(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"), "it is in eu-west-1: set AWS_REGION or"),
        (_failure(301, x_amz_bucket_region="eu-west-1"), "storage_options={'region': 'eu-west-1'}"),
        (_failure(307, "TemporaryRedirect", x_amz_bucket_region="eu-west-1"), "it is in eu-west-1"),
        (_failure(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"), "it is in eu-west-1"),
        (_failure(400, "AuthorizationHeaderMalformed", "is wrong; expecting 'eu-west-1'"), "it is in eu-west-1"),
        (
            _failure(400, "IllegalLocationConstraintException"),
            "for this bucket (400 IllegalLocationConstraintException)",
        ),
    ],
)
def test_the_wrong_region_names_the_right_one_where_it_is_known(error, hint):
    assert type(error) is CredentialsError
    assert str(error).startswith("s3://models/bert: us-east-1 is the wrong region for this bucket")
    assert hint in str(error)


def test_a_redirection_to_elsewhere_is_no_matter_of_regions():
    error = _failure(301, location="https://models.example/login?token=planted")
    assert type(error) is TransferError
    assert str(error) == (
        "s3://models/bert: the server sends elsewhere (301): is the endpoint right? It is https://models.example/login"
    )


def test_an_endpoint_of_ones_own_is_named():
    spec = SourceSpec(URL("s3", "models", ""), endpoint="http://store:9000")
    assert str(failure(spec, 404, "<Code>NoSuchBucket</Code>", {}, "r")) == (
        "no such bucket: s3://models at http://store:9000"
    )


class PreconditionError(Exception):
    """Named as obstore's."""


class GenericError(Exception):
    """Named as obstore's."""


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            PreconditionError("x"),
            ObjectChanged,
            "s3://models/bert/a.bin was replaced while it was read (at byte 7): load",
        ),
        (FileNotFoundError("x"), ObjectChanged, "s3://models/bert/a.bin was deleted while it was read (at byte 7)"),
        (GenericError("non-partial response"), TransferError, "the server ignores ranges (it answers 200 to a request"),
        (
            GenericError("status code: 503 Unavailable"),
            SourceUnavailable,
            "s3://models/bert/a.bin: the server answered 503",
        ),
        (GenericError("status code: 403: <Code>ExpiredToken</Code>"), CredentialsError, "expired (403 ExpiredToken)"),
        (GenericError("error: 401 Unauthorized"), CredentialsError, "not accepted (401)"),
        (GenericError('first\n{ message: "Connection refused" }'), SourceUnavailable, "first: Connection refused (at"),
        (GenericError("first\nInvalidCertificate(\n UnknownIssuer"), SourceUnavailable, "InvalidCertificate Unknown"),
        (
            GenericError("x\nkind: Timeout"),
            SourceUnavailable,
            "x (at byte 7); it took too long: is the server overloaded",
        ),
        (
            GenericError("x\nkind: Interrupted"),
            SourceUnavailable,
            "ended too early: does the server, or a proxy, close",
        ),
        (GenericError("x\nkind: Connect"), SourceUnavailable, "; is the server running, and is there a network to it?"),
        (GenericError('x\nkind: Connect, "dns error"'), SourceUnavailable, "; is the host name in the endpoint right"),
        (GenericError("Requested 0..9, got 1..10"), SourceUnavailable, "; does a proxy change what passes?"),
        (GenericError("connection reset\nDebug source"), SourceUnavailable, "a.bin: connection reset (at byte 7)"),
    ],
)
def test_obstores_errors_become_ours_with_object_and_offset(error, kind, said):
    found = from_obstore(error, SPEC, ENTRY, 7)
    assert type(found) is kind
    assert said in str(found)


def test_what_obstore_shows_of_credentials_is_taken_out():
    text = "error for AKIDPLANTED with secret-planted and token-planted at https://u:p@h/?X-Amz-Signature=planted"
    assert str(from_obstore(GenericError(text), SPEC, ENTRY, 0)) == (
        "s3://models/bert/a.bin: error for [secret] with [secret] and [secret] at "
        "https://[secret]@h/?X-Amz-Signature=[secret]"
    )
