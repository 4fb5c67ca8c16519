"""Places elsewhere hold exactly the site, signed, whatever failed on the way: real servers of each kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import obstore
import pytest
from dulwich.repo import Repo
from moto.server import ThreadedMotoServer

from holdfast.base.errors import HoldfastError
from holdfast.status.seal import MANIFEST, Signer, verify_folder
from holdfast.status.settings import Settings, SettingsInvalid, read
from holdfast.status.targets.errors import TargetInvalid, TargetUnavailable
from holdfast.status.targets.git import Git
from holdfast.status.targets.places import make
from holdfast.status.targets.s3 import S3
from holdfast.status.targets.settings import GitSettings, S3Settings, SftpSettings
from holdfast.status.targets.sftp import Sftp

UNTIL = datetime.now(UTC) + timedelta(minutes=10)
SECRETS = {"HOLDFAST_STATUS_S3_KEY": "key", "HOLDFAST_STATUS_S3_SECRET": "secret", "SFTP": "a password"}


class Site:
    """Sites of one signer."""

    def __init__(self, folder: Path) -> None:
        self.signer = Signer.kept(folder / "signing.key")

    def files(self, **pages: str) -> dict[str, bytes]:
        made = {name.replace("__", "/") + ".html": text.encode() for name, text in pages.items()}
        sums = {name: sha256(content).hexdigest() for name, content in made.items()}
        return made | {MANIFEST: self.signer.manifest(UNTIL, sums)}

    def check(self, folder: Path, there: dict[str, bytes]) -> None:
        for name, content in there.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        verify_folder(folder, self.signer.public_key, datetime.now(UTC))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def bucket(moto: str, name: str) -> S3:
    from urllib.request import Request, urlopen  # noqa: PLC0415

    urlopen(Request(f"{moto}/{name}", method="PUT"), timeout=10).close()
    made = make(S3Settings(bucket=name, prefix="site", endpoint=moto, allow_http=True), SECRETS)
    assert isinstance(made, S3)
    return made


def objects(one: S3) -> dict[str, bytes]:
    names = [each["path"] for some in obstore.list(one._store) for each in some]
    return {name: bytes(obstore.get(one._store, name).bytes()) for name in names}


def test_a_store_of_objects_holds_exactly_the_site_and_only_what_changed_is_brought(
    moto: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bucket(moto, "status")
    first = site.files(index="one", zh__index="一", old="old")
    one.publish(first)
    assert objects(one) == first
    brought: list[str] = []
    put = S3._put

    async def noted(self: S3, name: str, content: bytes, at_once: asyncio.Semaphore) -> None:
        brought.append(name)
        await put(self, name, content, at_once)

    monkeypatch.setattr(S3, "_put", noted)
    second = site.files(index="two", zh__index="一")
    one.publish(second)
    assert (sorted(brought), brought[-1]) == (["index.html", MANIFEST], MANIFEST)
    assert objects(one) == second
    site.check(tmp_path / "copy", objects(one))
    kind = obstore.head(one._store, "index.html")
    assert kind["size"] == 3


def test_a_store_that_failed_midway_is_whole_after_the_next_publish(
    moto: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bucket(moto, "midway")
    one.publish(site.files(index="one", more="one"))
    put = S3._put

    async def broken(self: S3, name: str, content: bytes, at_once: asyncio.Semaphore) -> None:
        if name == "more.html":
            raise OSError("the line is cut")
        await put(self, name, content, at_once)

    monkeypatch.setattr(S3, "_put", broken)
    with pytest.raises(TargetUnavailable, match="cut"):
        one.publish(site.files(index="two", more="two"))
    monkeypatch.setattr(S3, "_put", put)
    whole = site.files(index="three", more="two")
    one.publish(whole)
    assert objects(one) == whole


def test_a_store_with_things_of_somebody_else_is_left_alone(moto: str, site: Site) -> None:
    one = bucket(moto, "others")
    obstore.put(one._store, "photo.jpg", b"mine")
    with pytest.raises(TargetInvalid, match=r"photo\.jpg"):
        one.publish(site.files(index="one"))
    assert objects(one)["photo.jpg"] == b"mine"


class Server:
    """An SFTP server in a thread of its own, over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        async def start() -> None:
            class Guard(asyncssh.SSHServer):
                def begin_auth(self, username: str) -> bool:
                    return True

                def password_auth_supported(self) -> bool:
                    return True

                def validate_password(self, username: str, password: str) -> bool:
                    return (username, password) == ("status", SECRETS["SFTP"])

            acceptor = await asyncssh.listen(
                "127.0.0.1", 0, server_factory=Guard, server_host_keys=[self.key], sftp_factory=True
            )
            self.port = acceptor.get_port()
            ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def settings(self, key: asyncssh.SSHKey | None = None) -> SftpSettings:
        shown = (key or self.key).export_public_key().decode().strip()
        place = str(self.folder / "site")
        return SftpSettings(
            "127.0.0.1", "status", place, shown, port=self.port, password_variable="SFTP", timeout_s=20.0
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    one = Server(folder)
    yield one
    one.stop()


def test_a_server_over_sftp_switches_at_once_and_keeps_a_few_versions(site: Site, server: Server) -> None:
    one = make(server.settings(), SECRETS)
    for number in range(6):
        files = site.files(index=str(number), zh__index="一")
        one.publish(files)
    current = server.folder / "site" / "current"
    assert (current / "index.html").read_text() == "5"
    verify_folder(current.resolve(), site.signer.public_key, datetime.now(UTC))
    assert len(list((server.folder / "site" / "versions").iterdir())) <= 4
    again = make(server.settings(), SECRETS)  # after a restart
    again.publish(site.files(index="6"))
    assert (current / "index.html").read_text() == "6"
    assert not (current / "zh").exists()


def test_v5_0_0_12_3_2_a_server_with_another_key_gets_nothing(site: Site, server: Server) -> None:
    one = make(server.settings(asyncssh.generate_private_key("ssh-ed25519")), SECRETS)
    with pytest.raises(TargetInvalid, match="another key"):
        one.publish(site.files(index="one"))
    assert list(server.folder.iterdir()) == []


def tree(repository: Path, branch: bytes = b"refs/heads/gh-pages") -> dict[str, bytes]:
    with Repo(str(repository)) as one:
        found: dict[str, bytes] = {}

        def walk(sha: Any, prefix: str) -> None:
            for item in one[sha].iteritems():  # type: ignore[attr-defined]
                name = prefix + item.path.decode()
                entry = one[item.sha]
                if entry.type_name == b"tree":
                    walk(item.sha, name + "/")
                else:
                    found[name] = entry.data  # type: ignore[attr-defined]

        walk(one[one.refs[branch]].tree, "")  # type: ignore[index, attr-defined]
        return found


def test_a_branch_holds_exactly_the_site_and_its_history_has_a_bound(site: Site, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    Repo.init_bare(str(remote), mkdir=True).close()
    settings = GitSettings(str(tmp_path / "own.git"), remote=str(remote), every_s=0.0, commits_max=3)
    one = make(settings, {})
    for number in range(5):
        files = site.files(index=str(number), zh__index="一")
        one.publish(files)
        one.tidy()
        assert tree(remote) == files
    with Repo(str(remote)) as there:
        assert len(list(there.get_walker(include=[there.refs[b"refs/heads/gh-pages"]]))) <= 3  # type: ignore[index]


def test_commits_are_made_no_more_often_than_is_said(site: Site, tmp_path: Path) -> None:
    one = Git(GitSettings(str(tmp_path / "own.git"), every_s=600.0))
    first = site.files(index="1")
    one.publish(first)
    one.publish(site.files(index="2"))
    assert tree(tmp_path / "own.git") == first
    forced = site.files(index="3")
    one.publish(forced, force=True)
    assert tree(tmp_path / "own.git") == forced


def test_a_branch_of_somebody_else_is_left_alone(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    repository = Repo.init(str(folder), mkdir=True)
    (folder / "a.txt").write_text("mine")
    repository.get_worktree().stage(["a.txt"])
    made = repository.get_worktree().commit(
        message=b"mine", committer=b"Bob <b@example.org>", author=b"Bob <b@example.org>"
    )
    repository.refs[b"refs/heads/gh-pages"] = made  # type: ignore[index]
    repository.close()
    with pytest.raises(TargetInvalid, match="not of the status service"):
        make(GitSettings(str(folder)), {}).publish(site.files(index="1"))
    assert tree(folder) == {"a.txt": b"mine"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (S3Settings("b", key_variable="NO_KEY"), "NO_KEY"),
        (S3Settings("b", endpoint="http://127.0.0.1:1"), "allow_http"),
        (SftpSettings("h", "u", "/f", "ssh-ed25519 x", password_variable="SFTP"), "host_key"),
        (SftpSettings("h", "u", "/f", "ssh-ed25519 x"), "key_file"),
        (GitSettings("/f", remote="https://u:secret@h/x"), "password"),
        (GitSettings("/f", remote="http://h/x"), "allow_http"),
        (GitSettings("/f", remote="ftp://h/x"), "not an https or ssh address"),
    ],
)
def test_v5_0_0_13_3_1_what_is_set_up_wrong_is_refused_with_what_to_do(settings: Any, said: str) -> None:
    with pytest.raises(HoldfastError, match=said):
        make(settings, SECRETS)


def test_places_are_read_from_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "status.toml"
    path.write_text(
        '[[target]]\nkind = "git"\nfolder = "/srv/site.git"\n[[target]]\nkind = "s3"\nbucket = "b"\n'
    )
    assert read(path).target == (GitSettings("/srv/site.git"), S3Settings("b"))
    path.write_text('[[target]]\nkind = "ftp"\n')
    with pytest.raises(SettingsInvalid, match="ftp"):
        read(path)
    assert msgspec.structs.asdict(Settings())["target"] == ()


def test_a_server_that_is_away_is_unavailable_and_tells_no_secret(site: Site) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    one = Sftp(SftpSettings("127.0.0.1", "status", "/f", key, port=1, timeout_s=5.0), password="hush hush")
    with pytest.raises(TargetUnavailable) as failed:
        one.publish(site.files(index="1"))
    assert "hush" not in str(failed.value)
