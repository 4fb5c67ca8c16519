"""The site reaches places elsewhere whole: exactly its files, and after a failure everything anew."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import asyncssh
import boto3  # type: ignore[import-untyped]
import msgspec
import pytest
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend
from dulwich.web import make_wsgi_chain
from moto.server import ThreadedMotoServer

from holdfast.status.seal import Signer, verify_folder
from holdfast.status.targets.errors import TargetInvalid, TargetUnavailable
from holdfast.status.targets.git import Git
from holdfast.status.targets.places import make
from holdfast.status.targets.s3 import S3
from holdfast.status.targets.settings import GitSettings, S3Settings, SftpSettings, TargetSettings
from holdfast.status.targets.sftp import Sftp
from tests.status.worlds import NOON, later

UNTIL = later(minutes=10)
SECRET = "a secret that is never shown"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.kept(tmp_path_factory.mktemp("key") / "signing.key")


@pytest.fixture(scope="module")
def site(signer: Signer) -> Callable[..., dict[str, bytes]]:
    def made(**pages: str) -> dict[str, bytes]:
        files = {"zh/index.html": b"<p>\xe6\xad\xa3\xe5\xb8\xb8</p>", "api/v2/status.json": b"{}"}
        files |= {f"{name}.html": text.encode() for name, text in pages.items()}
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        return {"signatures.json": signer.manifest(UNTIL, sums)} | files

    return made


Site = Callable[..., dict[str, bytes]]


def laid_out(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class Bucket:
    """A bucket of a real server, the requests it gets, and a client of another make."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key=SECRET,
        )
        self.client.create_bucket(Bucket=name)

    def settings(self, prefix: str = "status") -> S3Settings:
        return S3Settings(self.name, prefix=prefix, endpoint=self.url, allow_http=True, timeout_s=30)

    def files(self) -> dict[str, bytes]:
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        keys = [one["Key"] for one in listed]
        return {key: self.client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}

    def times(self) -> dict[str, int]:
        """Return, by key, how often it was written: the bucket keeps versions."""
        listed = self.client.list_object_versions(Bucket=self.name).get("Versions", [])
        keys = [one["Key"] for one in listed]
        return {key: keys.count(key) for key in keys}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, request: pytest.FixtureRequest) -> Bucket:
    made = Bucket(moto, "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20])
    made.client.put_bucket_versioning(Bucket=made.name, VersioningConfiguration={"Status": "Enabled"})
    return made


def test_a_bucket_holds_exactly_the_site_and_only_what_changed_is_sent(
    bucket: Bucket, site: Site, signer: Signer, tmp_path: Path
) -> None:
    target = S3(bucket.settings(), "key", SECRET)
    target.publish(site(index="one", old="gone soon"))
    target.publish(site(index="two"))
    held = {name.removeprefix("status/"): content for name, content in bucket.files().items()}
    assert held == site(index="two")
    verify_folder(laid_out(held, tmp_path), signer.public_key, NOON)
    assert bucket.times() == {
        "status/index.html": 2,
        "status/old.html": 1,
        "status/signatures.json": 2,
        "status/zh/index.html": 1,
        "status/api/v2/status.json": 1,
    }
    page = bucket.client.head_object(Bucket=bucket.name, Key="status/index.html")
    assert (page["ContentType"], page["CacheControl"]) == ("text/html; charset=utf-8", "public, max-age=5")


def test_a_bucket_has_the_manifest_last_and_deletions_after_it(bucket: Bucket, site: Site) -> None:
    target = S3(bucket.settings(""), "key", SECRET)
    target.publish(site(index="one", old="gone soon"))
    target.publish(site(index="two"))
    versions = bucket.client.list_object_versions(Bucket=bucket.name)
    written = {one["Key"]: one["LastModified"] for one in versions["Versions"] if one["IsLatest"]}
    (deleted,) = versions["DeleteMarkers"]
    assert written["index.html"] <= written["signatures.json"] <= deleted["LastModified"]


def test_a_bucket_is_complete_after_a_failure_and_after_a_restart(bucket: Bucket, site: Site) -> None:
    settings = bucket.settings()
    target = S3(settings, "key", SECRET)
    target.publish(site(index="one", old="gone soon"))
    bad = site(index="two") | {"a/../../escape": b"no path of a store"}
    with pytest.raises(TargetUnavailable) as failed:
        target.publish(bad)
    assert SECRET not in str(failed.value)
    bucket.client.delete_object(Bucket=bucket.name, Key="status/zh/index.html")
    target.publish(site(index="two"))
    assert set(bucket.files()) == {f"status/{name}" for name in site(index="two")}
    S3(settings, "key", SECRET).publish(site(other="three"))
    assert set(bucket.files()) == {f"status/{name}" for name in site(other="three")}


def test_a_bucket_of_someone_else_is_left_alone(bucket: Bucket, site: Site) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="photos/cat.jpg", Body=b"miaow")
    with pytest.raises(TargetInvalid, match=r"cat\.jpg"):
        S3(bucket.settings(""), "key", SECRET).publish(site(index="one"))
    assert set(bucket.files()) == {"photos/cat.jpg"}
    S3(bucket.settings("status"), "key", SECRET).publish(site(index="one"))
    assert "photos/cat.jpg" in bucket.files()


def test_a_store_that_is_not_there_is_said_in_words(bucket: Bucket, site: Site) -> None:
    missing = msgspec.structs.replace(bucket.settings(), bucket="nobody-made-it")
    with pytest.raises(TargetUnavailable, match="nobody-made-it"):
        S3(missing, "key", SECRET).publish(site(index="one"))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path / "server")
    await made.start()
    yield made
    await made.stop()


class Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("status", SECRET)


class Server:
    """A real server for SFTP that can lack links, and fail at the n-th file that is opened."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        self.keys = [asyncssh.generate_private_key(kind) for kind in ("ssh-rsa", "ssh-ed25519")]
        self.login = asyncssh.generate_private_key("ssh-ed25519")
        self.opened: list[str] = []
        self.fails_at = 0
        self.links = True

    async def start(self) -> None:
        server = self

        class Files(asyncssh.SFTPServer):
            def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
                server.opened.append(Path(path.decode()).name)
                if len(server.opened) == server.fails_at:
                    raise asyncssh.SFTPFailure("the disk is full")
                return super().open(path, pflags, attrs)

            def link(self, oldpath: bytes, newpath: bytes) -> Any:
                if not server.links:
                    raise asyncssh.SFTPOpUnsupported("no links here")
                return super().link(oldpath, newpath)

        keys = self.root.parent / "authorized_keys"
        keys.write_bytes(self.login.export_public_key())
        (self.root.parent / "login").write_bytes(self.login.export_private_key())
        self._listening = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Login,
            server_host_keys=self.keys,
            authorized_client_keys=str(keys),
            sftp_factory=Files,
        )
        self.port = self._listening.get_port()

    async def stop(self) -> None:
        self._listening.close()
        await self._listening.wait_closed()

    def settings(self, **more: Any) -> SftpSettings:
        host_key = self.keys[1].export_public_key().decode().strip()
        login = str(self.root.parent / "login")
        chosen: dict[str, Any] = {"key_file": login, "host_key": host_key, "timeout_s": 30} | more
        return SftpSettings("127.0.0.1", "status", str(self.root / "site"), port=self.port, **chosen)

    @property
    def current(self) -> Path:
        return self.root / "site" / "current"

    def files(self) -> dict[str, bytes]:
        held = self.current.resolve()
        return {str(p.relative_to(held)): p.read_bytes() for p in held.rglob("*") if p.is_file()}


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
async def test_a_server_holds_exactly_the_site_and_changes_all_at_once(
    server: Server, site: Site, signer: Signer, links: bool
) -> None:
    server.links = links
    target = make(server.settings(), {})
    await asyncio.to_thread(target.publish, site(index="one", old="gone soon"))
    before = server.current.resolve()
    server.opened.clear()
    await asyncio.to_thread(target.publish, site(index="two"))
    assert server.files() == site(index="two")
    verify_folder(server.current, signer.public_key, NOON)
    sent = {"index.html", "signatures.json"} if links else {"index.html", "signatures.json", "status.json"}
    assert set(server.opened) == sent
    assert len(server.opened) == (2 if links else 4)
    assert (before / "old.html").read_bytes() == b"gone soon"
    for number in range(4):
        await asyncio.to_thread(target.publish, site(index=str(number)))
    assert len(list((server.root / "site" / "versions").iterdir())) == 3
    assert server.files() == site(index="3")


async def test_a_server_is_complete_after_a_failure_and_after_a_restart(server: Server, site: Site) -> None:
    target = Sftp(server.settings())
    await asyncio.to_thread(target.publish, site(index="one"))
    server.opened.clear()
    server.fails_at = 2
    with pytest.raises(TargetUnavailable, match="the disk is full"):
        await asyncio.to_thread(target.publish, site(index="two", more="x", third="y"))
    assert server.files() == site(index="one")
    server.opened.clear()
    server.fails_at = 0
    await asyncio.to_thread(target.publish, site(index="two"))
    assert server.files() == site(index="two")
    assert len(server.opened) == len(site(index="two"))
    assert sorted(p.name for p in (server.root / "site" / "versions").iterdir()) == ["000001", "000002"]
    await asyncio.to_thread(Sftp(server.settings()).publish, site(other="three"))
    assert server.files() == site(other="three")


async def test_a_server_with_another_host_key_is_sent_nothing(server: Server, site: Site) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    settings = server.settings(host_key=other, key_file="", password_variable="PASSWORD")
    with pytest.raises(TargetInvalid, match="another key"):
        await asyncio.to_thread(make(settings, {"PASSWORD": SECRET}).publish, site(index="one"))
    assert list(server.root.iterdir()) == []


async def test_a_server_is_entered_with_a_password_that_no_message_tells(server: Server, site: Site) -> None:
    settings = server.settings(key_file="", password_variable="PASSWORD")
    await asyncio.to_thread(make(settings, {"PASSWORD": SECRET}).publish, site(index="one"))
    assert server.files() == site(index="one")
    with pytest.raises(TargetUnavailable) as failed:
        await asyncio.to_thread(make(settings, {"PASSWORD": "another"}).publish, site(index="one"))
    assert "another" not in str(failed.value)


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> Any:
        return later(seconds=self.at_s)

    def monotonic_s(self) -> float:
        return self.at_s

    async def sleep(self, delay_s: float) -> None:
        self.at_s += delay_s


def cloned(remote: Path, folder: Path) -> Path:
    """Return what the real git reads of the branch."""
    subprocess.run(["git", "clone", "-q", "-b", "gh-pages", str(remote), str(folder)], check=True, timeout=60)
    subprocess.run(["git", "-C", str(folder), "fsck", "--strict"], check=True, timeout=60)
    return folder


def said(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, timeout=60, capture_output=True, text=True
    )
    return done.stdout.strip()


def read(folder: Path) -> dict[str, bytes]:
    paths = [p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    Repo.init_bare(str(tmp_path / "remote.git"), mkdir=True).close()
    return tmp_path / "remote.git"


def test_a_branch_holds_exactly_the_site(remote: Path, site: Site, signer: Signer, tmp_path: Path) -> None:
    target = Git(GitSettings(str(tmp_path / "own.git"), remote=str(remote), every_s=0))
    for files in (site(index="one", old="gone soon"), site(index="two"), site(index="two")):
        target.publish(files)
        target.tidy()
    folder = cloned(remote, tmp_path / "clone")
    assert read(folder) == site(index="two")
    assert said(folder, "log", "--format=%an", "--name-only", "-1").split("\n\n") == [
        "Holdfast status",
        "index.html\nold.html\nsignatures.json",
    ]
    assert said(folder, "rev-list", "--count", "HEAD") == "2"
    said(folder, "checkout", "-q", "--detach")
    subprocess.run(["rm", "-rf", str(folder / ".git")], check=True)
    verify_folder(folder, signer.public_key, NOON)


def test_a_branch_gets_a_commit_only_so_often_unless_forced(site: Site, tmp_path: Path) -> None:
    hands = Hands()
    own = tmp_path / "own.git"
    target = Git(GitSettings(str(own)), clock=hands)

    def count(files: dict[str, bytes], *, force: bool = False) -> str:
        target.publish(files, force=force)
        return said(own, "rev-list", "--count", "gh-pages")

    assert count(site(index="one")) == "1"
    hands.at_s = 30
    assert count(site(index="two")) == "1"
    assert count(site(index="two"), force=True) == "2"
    hands.at_s = 89
    assert count(site(index="three")) == "3"


def test_a_history_begins_anew_and_the_old_one_goes(remote: Path, site: Site, tmp_path: Path) -> None:
    own = tmp_path / "own.git"
    target = Git(GitSettings(str(own), remote=str(remote), every_s=0, commits_max=3))
    counts = []
    for number in range(5):
        target.publish(site(index=str(number)))
        target.tidy()
        counts.append(said(remote, "rev-list", "--count", "gh-pages"))
    assert counts == ["1", "2", "3", "1", "2"]
    assert said(own, "rev-list", "--count", "--all") == "2"
    held = said(own, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)").split()
    assert held.count("commit") == 2
    assert read(cloned(remote, tmp_path / "clone")) == site(index="4")


def test_a_branch_is_complete_after_a_failure_and_on_a_new_machine(
    remote: Path, site: Site, tmp_path: Path
) -> None:
    target = Git(GitSettings(str(tmp_path / "own.git"), remote=str(remote)))
    away = remote.rename(tmp_path / "away.git")
    with pytest.raises(TargetUnavailable, match=r"remote\.git"):
        target.publish(site(index="one"))
    away.rename(remote)
    target.publish(site(index="one"))
    assert read(cloned(remote, tmp_path / "first")) == site(index="one")
    Git(GitSettings(str(tmp_path / "new.git"), remote=str(remote))).publish(site(index="two"))
    assert read(cloned(remote, tmp_path / "second")) == site(index="two")


def test_a_branch_of_someone_else_is_left_alone(remote: Path, site: Site, tmp_path: Path) -> None:
    work = tmp_path / "work"
    subprocess.run(["git", "init", "-q", "-b", "gh-pages", str(work)], check=True)
    said(work, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "mine")
    said(work, "push", "-q", str(remote), "gh-pages")
    tip = said(remote, "rev-parse", "gh-pages")
    for settings in (GitSettings(str(tmp_path / "own.git"), remote=str(remote)), GitSettings(str(work))):
        with pytest.raises(TargetInvalid, match="not of the status service"):
            Git(settings).publish(site(index="one"))
    assert said(remote, "rev-parse", "gh-pages") == said(work, "rev-parse", "gh-pages") == tip


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own word
        return


def test_a_branch_is_pushed_over_http_with_a_password_that_no_message_tells(
    remote: Path, site: Site, tmp_path: Path
) -> None:
    held: dict[str, BackendRepo] = {"/site.git": Repo(str(remote))}
    inner = make_wsgi_chain(DictBackend(held))
    wanted = "Basic " + base64.b64encode(f"status:{SECRET}".encode()).decode()

    def guarded(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ.get("HTTP_AUTHORIZATION") != wanted:
            start("401 Unauthorized", [("WWW-Authenticate", "Basic")])
            return [b""]
        answered: Iterable[bytes] = inner(environ, start)
        return answered

    with make_server("127.0.0.1", 0, guarded, handler_class=Quiet) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        settings = GitSettings(
            str(tmp_path / "own.git"),
            remote=f"http://127.0.0.1:{listening.server_port}/site.git",
            user="status",
            password_variable="TOKEN",
            allow_http=True,
            every_s=0,
        )
        target = make(settings, {"TOKEN": SECRET})
        target.publish(site(index="one"))
        target.publish(site(index="two"))
        elsewhere = msgspec.structs.replace(settings, folder=str(tmp_path / "new.git"))
        make(elsewhere, {"TOKEN": SECRET}).publish(site(index="three"))
        with pytest.raises(TargetUnavailable) as failed:
            make(settings, {"TOKEN": "another-token"}).publish(site(index="four"))
        listening.shutdown()
        thread.join(10)
    assert "another-token" not in str(failed.value)
    assert read(cloned(remote, tmp_path / "clone")) == site(index="three")


HOST_KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
SFTP = SftpSettings("h", "u", "/f", HOST_KEY)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        pytest.param(S3Settings("b"), "HOLDFAST_STATUS_S3_KEY", id="a missing secret is named"),
        pytest.param(S3Settings("b", key_variable="MINE"), "MINE", id="and by the name that was chosen"),
        pytest.param(
            msgspec.structs.replace(SFTP, password_variable="PW"), "PW", id="a missing password is named"
        ),
        pytest.param(SFTP, "key_file", id="a server needs a key or a password"),
        pytest.param(
            msgspec.structs.replace(SFTP, key_file="/nowhere/key"),
            "/nowhere/key",
            id="a key that is not there",
        ),
        pytest.param(
            msgspec.structs.replace(SFTP, host_key="ssh-ed25519 !", password_variable="SET"),
            "host_key",
            id="a host key that is none",
        ),
        pytest.param(GitSettings("f", password_variable="TOKEN"), "TOKEN", id="a missing token is named"),
        pytest.param(GitSettings("f", remote="http://h/r"), "allow_http", id="a push in the clear"),
        pytest.param(GitSettings("f", remote="https://u:p@h/r"), "password", id="a password in an address"),
        pytest.param(GitSettings("f", remote="git://h/r"), "https or ssh", id="an address without a key"),
        pytest.param(
            S3Settings("b", endpoint="http://h", key_variable="SET", secret_variable="SET"),
            "allow_http",
            id="a store in the clear",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(settings: TargetSettings, word: str) -> None:
    with pytest.raises(TargetInvalid, match=word):
        make(settings, {"SET": SECRET})


def test_settings_are_read_by_their_kind_and_an_unknown_key_is_refused() -> None:
    text = f"""
        [[target]]
        kind = "s3"
        bucket = "status"
        [[target]]
        kind = "sftp"
        host = "files.example.org"
        user = "status"
        folder = "/srv/status"
        host_key = "{HOST_KEY}"
        [[target]]
        kind = "git"
        folder = "/var/lib/site.git"
    """
    read_ = msgspec.toml.decode(text, type=dict[str, tuple[TargetSettings, ...]])["target"]
    assert [type(one) for one in read_] == [S3Settings, SftpSettings, GitSettings]
    with pytest.raises(msgspec.ValidationError, match="secret"):
        msgspec.toml.decode(text + 'secret = "x"', type=dict[str, tuple[TargetSettings, ...]])
