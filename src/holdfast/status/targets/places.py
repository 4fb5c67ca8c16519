"""Makes a place from what the operator chose and the environment's secrets."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.status.target import Target
from holdfast.status.targets.errors import TargetInvalid
from holdfast.status.targets.git import Git
from holdfast.status.targets.s3 import S3
from holdfast.status.targets.settings import GitSettings, S3Settings, SftpSettings, TargetSettings
from holdfast.status.targets.sftp import Sftp


def make(settings: TargetSettings, environment: Mapping[str, str]) -> Target:
    """Return the place that is ready to publish to; nothing is connected yet. Raises: `TargetInvalid`."""
    match settings:
        case S3Settings():
            key = _secret(environment, "s3", "key_variable", settings.key_variable)
            return S3(settings, key, _secret(environment, "s3", "secret_variable", settings.secret_variable))
        case SftpSettings():
            return _sftp(settings, environment)
        case GitSettings():
            password = ""
            if settings.password_variable:
                password = _secret(environment, "git", "password_variable", settings.password_variable)
            return Git(settings, password=password)


def _sftp(settings: SftpSettings, environment: Mapping[str, str]) -> Sftp:
    if bool(settings.key_file) == bool(settings.password_variable):
        raise TargetInvalid("target sftp: say either `key_file` or `password_variable`.")
    if settings.password_variable:
        password = _secret(environment, "sftp", "password_variable", settings.password_variable)
        return Sftp(settings, password=password)
    passphrase = ""
    if settings.passphrase_variable:
        passphrase = _secret(environment, "sftp", "passphrase_variable", settings.passphrase_variable)
    return Sftp(settings, passphrase=passphrase)


def _secret(environment: Mapping[str, str], kind: str, key: str, variable: str) -> str:
    value = environment.get(variable, "")
    if not value:
        raise TargetInvalid(f"target {kind}: `{key}` names {variable}, which the environment does not have.")
    return value
