"""What an operator chooses for a place away from this machine. Secrets are never here: variables are named.

[[target]]
kind = "s3"                             a store of objects that speaks S3
bucket = "status"
[[target]]
kind = "sftp"                           a server over SFTP
host = "files.example.org"
[[target]]
kind = "git"                            a branch of a repository
folder = "/var/lib/holdfast-status/site.git"
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=600)]
Said: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


class S3Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="s3"):
    """A bucket, or the part of one below `prefix`, that holds the site and nothing else."""

    bucket: Said
    prefix: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    """Empty: Amazon's own. With `virtual_host` it carries the bucket: https://bucket.host."""
    key_variable: str = "HOLDFAST_STATUS_S3_KEY"
    secret_variable: str = "HOLDFAST_STATUS_S3_SECRET"  # noqa: S105 - a variable's name
    allow_http: bool = False
    virtual_host: bool = False
    timeout_s: Seconds = 120.0
    """For one publish as a whole."""


class SftpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sftp"):
    """A folder of a server, in which `current` is what a web server should serve."""

    host: Said
    user: Said
    folder: Said
    host_key: Said
    """The server's public key, as `ssh-keyscan` prints it without the name: ssh-ed25519 AAAA…"""
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 22
    key_file: str = ""
    """Of a private key; otherwise `password_variable` names the variable with the password."""
    passphrase_variable: str = ""
    password_variable: str = ""
    timeout_s: Seconds = 120.0
    """For one publish as a whole."""


class GitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="git"):
    """A repository of this machine, and one elsewhere that its branch is pushed to."""

    folder: Said
    remote: str = ""
    """https://…, ssh://…, user@host:path or a path. Empty: nothing is pushed."""
    branch: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_/-]{0,99}$")] = "gh-pages"
    every_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0
    """A commit is made at most so often."""
    commits_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_000
    """After so many the history begins anew, so that it does not grow for ever."""
    user: str = ""
    password_variable: str = ""
    """For https: the variable with the password or the token."""
    key_file: str = ""
    """For ssh: a private key without a passphrase."""
    allow_http: bool = False
    timeout_s: Seconds = 30.0
    """For each answer of the remote."""


TargetSettings: TypeAlias = S3Settings | SftpSettings | GitSettings
"""One `[[target]]`, told apart by `kind`."""
