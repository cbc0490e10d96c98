"""Corrects the virtual environments of a project folder that was moved or copied: their files name the old folder.

usage: python tools/moved.py .venv .venv-peers        (make does it first)

pyvenv.cfg holds the command, and so the folder, that an environment was made with. In another folder its scripts (dvc,
pytest, ...) start the old folder's Python, and outside the project `import r2a_core` takes the old code: the new
folder's name is put in place of the old one. An environment whose Python is gone, or whose scripts cannot name the new
folder, is removed, so that make sets it up again.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

NAMING = ("bin/*", "pyvenv.cfg", "lib/python3*/site-packages/*.pth", "lib/python3*/site-packages/__editable__*.py")
NAMING += ("lib/python3*/site-packages/r2a-*.dist-info/direct_url.json",)

LONGEST = 127  # characters of a script's first line that Linux reads


def text_files(environment: Path) -> Iterator[Path]:
    """Yields the files of an environment that may name its folder."""
    for pattern in NAMING:
        for path in environment.glob(pattern):
            if path.is_file() and not path.is_symlink() and b"\0" not in path.read_bytes():
                yield path


def put_in_place(environment: Path, old: str, new: str) -> None:
    """Replaces the old folder's name by the new one's wherever a file of the environment names it."""
    named = re.compile(re.escape(old.encode()) + rb"(?![\w.-])")
    for path in list(text_files(environment)):
        before = path.read_bytes()
        after = named.sub(lambda _: new.encode(), before)
        if after != before:
            new_file = path.with_name(f"{path.name}.new")  # the old one may be a hard link that another folder has
            new_file.write_bytes(after)
            new_file.chmod(path.stat().st_mode)
            new_file.replace(path)


def correct(environment: Path) -> str:
    """Makes an environment one of the folder that it lies in. Returns what was done, in a sentence; "" for nothing.

    One that only a symbolic link leads to belongs to another folder, and one without the command is left as it is.
    """
    config = environment / "pyvenv.cfg"
    if environment.is_symlink() or not config.is_file():
        return ""
    made = re.search(
        rf"^command = .* -m venv .*?(/.*)/{re.escape(environment.name)}$", config.read_text(), re.MULTILINE
    )
    here = str(environment.parent)
    whole = (environment / "bin" / "python").exists()
    if whole and (made is None or made[1] == here):
        return ""
    python = f"#!{environment}/bin/python"
    if whole and made is not None and not re.search(r"\s", made[1] + here) and len(python) <= LONGEST:
        put_in_place(environment, made[1], here)
        return f"{environment.name} was made in {made[1]}: its files now name this folder."
    shutil.rmtree(environment)
    return f"{environment.name} fits another folder or Python: it is set up again."


if __name__ == "__main__":
    done = [correct(Path(name).absolute()) for name in sys.argv[1:]]
    print(*filter(None, done))
