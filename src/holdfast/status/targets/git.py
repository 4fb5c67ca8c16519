"""A branch of a git repository, pushed to another if one is named. What GitHub Pages and its like serve.

Trees are written without a work tree. Only commits of our own are built on or replaced: a branch whose
newest commit is someone else's is refused. The history begins anew after `commits_max` commits, and is then
pushed by force; `tidy` lets go of what was before. A commit carries its number, so that no history has to be
walked.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dulwich import gc
from dulwich.client import GitClient, HTTPUnauthorized, get_transport_and_path
from dulwich.config import ConfigDict
from dulwich.errors import (
    GitProtocolError,
    HangupException,
    NotGitRepository,
    ObjectFormatException,
    SendPackError,
)
from dulwich.index import commit_tree
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.refs import Ref
from dulwich.repo import MemoryRepo, Repo

from holdfast.base.clock import Clock, SystemClock
from holdfast.status.targets.errors import TargetInvalid, TargetUnavailable, unavailable
from holdfast.status.targets.settings import GitSettings

AUTHOR: Final = b"Holdfast status <status@holdfast.invalid>"
CONNECT_S: Final = 10
EARLY: Final = 0.9
"""The site is made anew every minute, a little more or less: so much of `every_s` is enough."""
PACK_EVERY: Final = 100
"""Commits after which loose objects are put into one pack."""
_FILE: Final = 0o100644
_NUMBER: Final = re.compile(rb"^number: ([0-9]{1,9})$", re.MULTILINE)
_FAILURES: Final = (
    GitProtocolError,
    HangupException,
    HTTPUnauthorized,
    NotGitRepository,
    ObjectFormatException,
    SendPackError,
    OSError,
    ValueError,
    KeyError,
)


class Git:
    """A branch of a repository of this machine, and of one elsewhere."""

    def __init__(self, settings: GitSettings, *, password: str = "", clock: Clock | None = None) -> None:
        """Raises: `TargetInvalid`."""
        _check(settings, password)
        self._settings = settings
        self._password = password
        self._clock = clock or SystemClock()
        self._place = f"git {settings.remote or settings.folder} {settings.branch}"
        self._ref = Ref(b"refs/heads/" + settings.branch.encode())
        self._published_s: float | None = None
        """When the last publish that succeeded began. None: the last one failed."""
        self._ended = False
        """A history ended; `tidy` lets go of it."""

    def publish(self, files: Mapping[str, bytes], *, force: bool = False) -> None:
        """Make the branch consist of exactly these files; within `every_s` of the last time only if forced.

        What is held back comes with the first publish after that.
        Raises: `TargetInvalid`, `TargetUnavailable`.
        """
        now_s, before_s = self._clock.monotonic_s(), self._published_s
        if not force and before_s is not None and now_s - before_s < self._settings.every_s * EARLY:
            return
        self._published_s = None
        try:
            with self._repository() as repository:
                tip = self._commit(repository, files)
                if self._settings.remote:
                    self._push(repository, tip)
        except _FAILURES as error:
            raise unavailable(self._place, error, self._password) from None
        self._published_s = now_s

    def tidy(self) -> None:
        """Pack objects now and then, and let go of a history that ended. Raises: `TargetUnavailable`."""
        try:
            with self._repository() as repository:
                number = _number(repository, repository.refs[self._ref])
                alone = set(repository.get_refs()) <= {self._ref, Ref(b"HEAD")}
                loose = repository.object_store.count_loose_objects()
                if self._ended and alone:
                    gc.garbage_collect(repository, grace_period=None)
                    self._ended = False
                elif number % PACK_EVERY == 0 and loose:
                    repository.object_store.pack_loose_objects()
        except _FAILURES as error:
            raise unavailable(self._place, error, self._password) from None

    def _repository(self) -> Repo:
        folder = Path(self._settings.folder)
        if (folder / "HEAD").exists() or (folder / ".git").exists():
            return Repo(str(folder))
        repository = Repo.init_bare(str(folder), mkdir=not folder.exists())
        repository.refs.set_symbolic_ref(Ref(b"HEAD"), self._ref)
        return repository

    def _commit(self, repository: Repo, files: Mapping[str, bytes]) -> ObjectID:
        """Return the branch's commit that holds exactly these files; a new one if the newest does not."""
        tip = repository.refs.as_dict(Ref(b"refs/heads")).get(Ref(self._settings.branch.encode()))
        if tip is not None:
            self._recognise(repository[tip])
        fresh = MemoryObjectStore()
        blobs = []
        for name, content in files.items():
            blob = Blob.from_string(content)
            fresh.add_object(blob)
            blobs.append((name.encode(), blob.id, _FILE))
        tree = commit_tree(fresh, blobs)
        number = _number(repository, tip) if tip is not None else 0
        if tip is not None and _tree(repository[tip]) == tree:
            return tip
        parents = [tip] if tip is not None and number < self._settings.commits_max else []
        commit = Commit()
        commit.tree, commit.parents = tree, parents
        commit.author = commit.committer = AUTHOR
        commit.author_time = commit.commit_time = int(self._clock.now().timestamp())
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = b"Status page\n\nnumber: %d\n" % (number + 1 if parents else 1)
        fresh.add_object(commit)
        for sha in fresh:
            if sha not in repository.object_store:
                repository.object_store.add_object(fresh[sha])
        repository.refs[self._ref] = commit.id
        self._ended = self._ended or (tip is not None and not parents)
        return commit.id

    def _push(self, repository: Repo, tip: ObjectID) -> None:
        """Make the remote's branch that commit; what it replaces is ours, or it is refused."""
        client, path = self._client()
        seen = client.get_refs(path.encode()).refs.get(self._ref)
        if seen is not None and seen != tip:
            self._recognise(_fetched(repository, client, path, seen))

        def update(there: dict[Ref, ObjectID]) -> dict[Ref, ObjectID]:
            if there.get(self._ref) not in (seen, tip):
                raise TargetUnavailable(f"{self._place}: someone else is writing to it.")
            return {self._ref: tip}

        result = client.send_pack(path.encode(), update, repository.generate_pack_data)  # type: ignore[arg-type]
        refused = (result.ref_status or {}).get(self._ref)
        if refused:
            raise TargetUnavailable(f"{self._place}: the remote does not take it: {refused}")

    def _client(self) -> tuple[GitClient, str]:
        settings = self._settings
        config = ConfigDict()
        config.set((b"http",), b"timeout", str(settings.timeout_s).encode())
        wait_s = max(1, int(settings.timeout_s / 2))
        said = ["-oBatchMode=yes", "-oStrictHostKeyChecking=yes", f"-oConnectTimeout={CONNECT_S}"]
        said += [f"-oServerAliveInterval={wait_s}", "-oServerAliveCountMax=2"]
        over_ssh = _scheme(settings.remote) == "ssh"
        return get_transport_and_path(
            settings.remote,
            config=config,
            operation="push",
            quiet=True,
            username=settings.user or None,
            password=self._password or None,
            key_filename=settings.key_file or None if over_ssh else None,
            ssh_command=shlex.join(["ssh", *said]) if over_ssh else None,
        )

    def _recognise(self, tip: object) -> None:
        if not isinstance(tip, Commit) or tip.committer != AUTHOR:
            raise TargetInvalid(
                f"{self._place}: the branch holds commits that are not of the status service; name another."
            )


def _check(settings: GitSettings, password: str) -> None:
    """Refuse what would send things in the clear, or leave a secret in a file. Raises: `TargetInvalid`."""
    split = urlsplit(settings.remote) if "://" in settings.remote else None
    scheme = _scheme(settings.remote)
    if split is not None and split.password:
        raise TargetInvalid("target git: `remote` holds a password; use `user` and `password_variable`.")
    if scheme == "http" and not settings.allow_http:
        raise TargetInvalid("target git: `remote` is not https; say `allow_http = true` if that is meant.")
    if scheme not in ("https", "http", "ssh", "path"):
        raise TargetInvalid("target git: `remote` is not an https or ssh address, nor a path.")
    if password and scheme not in ("https", "http"):
        raise TargetInvalid("target git: `password_variable` is for https; for ssh say `key_file`.")
    if password and not settings.user:
        raise TargetInvalid("target git: `password_variable` needs `user`.")


def _scheme(remote: str) -> str:
    """Return https, http, ssh, path, or another that is written."""
    if "://" in remote:
        scheme = remote.partition("://")[0].lower()
        return {"git+ssh": "ssh", "file": "path"}.get(scheme, scheme)
    return "ssh" if ":" in remote and not remote.startswith(("/", ".")) else "path"


def _fetched(repository: Repo, client: GitClient, path: str, sha: ObjectID) -> object:
    """Return a commit of the remote, which we may hold ourselves."""
    if sha in repository.object_store:
        return repository[sha]
    if _is_here(client):
        with Repo(path) as other:
            return other[sha]
    memory = MemoryRepo()

    def wants(_refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
        return [sha]

    client.fetch(path.encode(), memory, determine_wants=wants, depth=1)  # type: ignore[arg-type]
    return memory[sha]


def _is_here(client: GitClient) -> bool:
    return type(client).__name__ == "LocalGitClient"


def _tree(commit: object) -> ObjectID | None:
    return commit.tree if isinstance(commit, Commit) else None


def _number(repository: Repo, sha: ObjectID) -> int:
    commit = repository[sha]
    found = _NUMBER.search(commit.message) if isinstance(commit, Commit) else None
    return int(found[1]) if found else 0
