"""Files and folders outside the project are known by their content; what params.yaml does not pin is refused."""

import hashlib
import os
from pathlib import Path

import pytest

from r2a_core.infra import pins
from r2a_core.infra.errors import MissingPrerequisite
from r2a_core.infra.pins import check_pin, content_digest

OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
KEY = "models.mine.sha256"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    for name in ("config.json", "merges.txt", "sub/b", "sub2", "chat_template.jinja", "B"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"content of {name}")
    return root


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read; all count as large."""
    names: list[str] = []

    def noted(path: Path) -> str:
        names.append(path.name)
        return sha256(path)

    sha256 = pins.sha256
    monkeypatch.setattr(pins, "sha256", noted)
    monkeypatch.setattr(pins, "LARGE", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return names


def test_the_digest_of_a_file_is_its_sha256_and_that_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    for name in ("abc", "sub/abc"):
        (tmp_path / "mine" / name).write_text("abc")
    assert content_digest(tmp_path / "mine" / "abc") == OF_ABC
    both = b"abc\0" + bytes.fromhex(OF_ABC) + b"sub/abc\0" + bytes.fromhex(OF_ABC)
    assert content_digest(tmp_path / "mine") == hashlib.sha256(both).hexdigest()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *((name, True) for name in ("tokenizer.json", "model.safetensors", "sub/x.bin", "vocab.txt", "b.MDX")),
        *((name, False) for name in ("README.md", "a.PNG", "sub/figure.jpeg", ".gitattributes", ".cache/x")),
    ],
)
def test_every_file_counts_that_may_change_a_number(folder: Path, name: str, counts: bool) -> None:
    before = content_digest(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("one")
    after = content_digest(folder)
    (folder / name).write_text("two")
    assert len({before, after, content_digest(folder)}) == (3 if counts else 1)


def test_a_renamed_file_counts(folder: Path) -> None:
    before = content_digest(folder)
    (folder / "B").rename(folder / "C")
    assert content_digest(folder) != before


def test_what_is_not_pinned_is_refused_with_the_line_to_write(refused, tmp_path: Path, folder: Path) -> None:
    found = content_digest(folder)
    check_pin(folder, found, KEY)
    line = f"write into params.yaml  {KEY}: {found}"
    assert refused(lambda: check_pin(folder, None, KEY), f"{KEY} is null", line).exit_code == 2
    refused(lambda: check_pin(folder, OF_ABC, KEY), [str(folder), f"it holds {found}, not {OF_ABC}"], line)
    for name in ("none", "n" * 300):
        error = refused(lambda name=name: check_pin(tmp_path / name, found, KEY), str(tmp_path / name), "")
        assert isinstance(error, MissingPrerequisite)


def test_a_large_file_is_read_again_only_when_it_may_have_changed(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "B"
    first = content_digest(path)
    assert content_digest(path) == first
    assert read == ["B"] * 2  # written a moment ago: it may change again within one tick of the clock
    monkeypatch.setattr(pins, "SETTLED", 0)
    assert [content_digest(path) for _ in range(3)] == [first] * 3
    assert read == ["B"] * 3
    before = path.stat()
    path.write_text("content of C")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same inode, size and time of change
    assert content_digest(path) != first
    assert read == ["B"] * 4


def test_a_cache_that_cannot_be_used_is_done_without(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "SETTLED", 0)
    first = content_digest(folder)
    for remembered in pins.user_cache("digests").iterdir():
        remembered.write_bytes(b"\xff" if remembered.name < "8" else b"")
    assert content_digest(folder) == first
    for nowhere in (str(folder / "B"), "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
        assert content_digest(folder) == first
    assert len(read) == 6 * 4
