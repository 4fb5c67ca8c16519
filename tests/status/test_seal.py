"""A reader with the public key alone can tell a genuine page, and how long it may be believed."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.status.seal import (
    PublicKeyInvalid,
    SignatureOld,
    SignatureWrong,
    Signer,
    verify_folder,
    verify_page,
)
from holdfast.status.target import Folder
from tests.status.worlds import NOON, later

UNTIL = later(minutes=10)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.kept(tmp_path_factory.mktemp("key") / "signing.key")


def test_a_page_is_genuine_until_its_time_is_over(signer: Signer) -> None:
    page = signer.page("zh/index.html", UNTIL, "<p>正常</p>".encode())
    found = verify_page(page, signer.public_key, NOON)
    assert (found.path, found.valid_until) == ("zh/index.html", UNTIL)
    verify_page(page, signer.public_key, UNTIL)
    with pytest.raises(SignatureOld):
        verify_page(page, signer.public_key, UNTIL + timedelta(seconds=1))


@given(data=st.data())
def test_a_page_with_any_byte_changed_is_not_genuine(signer: Signer, data: st.DataObject) -> None:
    page = bytearray(signer.page("index.html", UNTIL, b"<p>Everything works</p>"))
    at = data.draw(st.integers(0, len(page) - 2))
    page[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SignatureWrong, SignatureOld)):
        verify_page(bytes(page), signer.public_key, NOON)


def test_another_key_and_no_signature_and_no_key_are_told_apart(signer: Signer, tmp_path: Path) -> None:
    page = signer.page("index.html", UNTIL, b"<p>All is well</p>")
    stranger = Signer.kept(tmp_path / "other.key")
    with pytest.raises(SignatureWrong):
        verify_page(page, stranger.public_key, NOON)
    with pytest.raises(SignatureWrong, match="no signature"):
        verify_page(b"<p>All is well</p>", signer.public_key, NOON)
    for key in ("", "hfs1_", "hfs1_!!", signer.public_key[5:]):
        with pytest.raises(PublicKeyInvalid):
            verify_page(page, key, NOON)


def test_asvs_13_3_2_the_key_is_kept_for_its_owner_alone_and_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    first = Signer.kept(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.kept(path).public_key == first.public_key


def test_a_published_folder_is_checked_whole(signer: Signer, tmp_path: Path) -> None:
    files = {"index.html": b"<p>ok</p>", "api/v2/status.json": b"{}"}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    folder = Folder(tmp_path / "site")
    folder.publish(files | {"signatures.json": signer.manifest(UNTIL, sums)})
    current = folder.current
    verify_folder(current, signer.public_key, NOON)
    (current / "more.html").write_bytes(b"<p>send us your password</p>")
    with pytest.raises(SignatureWrong, match=r"more\.html"):
        verify_folder(current, signer.public_key, NOON)
    (current / "more.html").unlink()
    (current / "index.html").write_bytes(b"<p>send us your password</p>")
    with pytest.raises(SignatureWrong, match=r"index\.html was changed"):
        verify_folder(current, signer.public_key, NOON)
    (current / "signatures.json").unlink()
    with pytest.raises(SignatureWrong, match=r"signatures\.json"):
        verify_folder(current, signer.public_key, NOON)


def test_a_reader_of_the_folder_sees_one_version_whole_and_old_ones_go(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "site")
    same = b"same"
    for number in range(6):
        content = str(number).encode()
        folder.publish({"index.html": content, "zh/index.html": content, "old.html": same})
        folder.tidy()
        held = folder.current.resolve()
        assert (held / "index.html").read_bytes() == (held / "zh/index.html").read_bytes() == content
        assert (held / "old.html").read_bytes() == same
    assert len(list((tmp_path / "site" / "versions").iterdir())) == 3
    assert (held / "old.html").stat().st_nlink == 3
    again = Folder(tmp_path / "site")
    again.publish({"index.html": b"after a restart"})
    assert (again.current / "index.html").read_bytes() == b"after a restart"
    assert not (again.current / "old.html").exists()
