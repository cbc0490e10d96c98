"""What lies outside the project, pinned by its content in params.yaml, as a model of the Hub is by its commit.

file or folder, SHA-256 in params.yaml -> nothing, or an R2AError that says which line to write there. DVC cannot watch
such a path: it has no place in dvc.yaml and is absent from a clone. With the pin, dvc.lock names the content.

The digest of a file is its SHA-256, that of a folder covers the names and contents of its files but NO_NUMBERS.

Large files are not read again while inode, size and both times stay: their digests are remembered in r2a/digests/ of
the user's cache (XDG_CACHE_HOME, default ~/.cache).
"""

import hashlib
import os
import re
import time
import uuid
from contextlib import suppress
from pathlib import Path

from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import folder_digest, sha256, write_text_whole

# Names of files that change no number: hidden ones, descriptions and images.
NO_NUMBERS = (".*", "*.md", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp")

LARGE = 1 << 24  # bytes, from which a file's digest is remembered

SETTLED = 2 * 10**9  # ns: a file edited this shortly ago may change again within one tick of its file system's clock


def check_pin(path: Path, pinned: str | None, key: str) -> None:
    """Raises R2AError unless a file or folder has the content that `key` of params.yaml pins, None being no pin.

    Raises MissingPrerequisite when it is absent or cannot be read.
    """
    found = content_digest(path)
    if found == pinned:
        return
    write = f"write into params.yaml  {key}: {found}"
    if pinned is None:
        raise R2AError(f"{key} is null: params.yaml says what {path} holds", write)
    raise R2AError(
        f"{path} is not what {key} says: it holds {found}, not {pinned}", f"put the old content back, or {write}"
    )


def content_digest(path: Path) -> str:
    """Computes the digest of a file or folder. Raises MissingPrerequisite when it is absent or cannot be read."""
    try:
        if path.is_file():
            return file_digest(path)
        if path.is_dir():
            return folder_digest(path, NO_NUMBERS, file_digest)
    except OSError as error:
        raise MissingPrerequisite(f"{path} cannot be read: {error.strerror}", "permit reading it") from None
    raise MissingPrerequisite(f"{path} does not exist", "copy it there, or correct its path in params.yaml")


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, of a large one that is unchanged as remembered."""
    before, started = path.stat(), time.time_ns()
    if before.st_size < LARGE:
        return sha256(path)
    identity = (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
    place = user_cache("digests") / hashlib.sha256(f"{path.resolve()}\0{identity}".encode()).hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        remembered = place.read_text(encoding="ascii")
        if re.fullmatch("[0-9a-f]{64}", remembered):
            return remembered
    digest = sha256(path)
    if max(before.st_mtime_ns, before.st_ctime_ns) + SETTLED < started and path.stat() == before:
        with suppress(MissingPrerequisite, OSError):  # a full or read-only disk costs time, not truth
            write_text_whole(place, digest, f"{uuid.uuid4().hex[:8]}-")
    return digest


def user_cache(name: str) -> Path:
    """Returns a folder of the project in the user's cache, one below no folder where the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache if os.path.isabs(cache) else os.devnull) / "r2a" / name
