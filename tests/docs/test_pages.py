"""README and docs: links lead to files, named paths exist, and the map names every folder."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "imports" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name + page.stem)
def test_links_lead_to_files_and_named_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
    paths = re.findall(r"`((?:r2a_core|stages|tests|benchmarks|tools|docs|examples)/[\w./-]*)`", text)
    modules = [path.replace(".", "/") for path in re.findall(r"`((?:r2a_core|stages|tests)(?:\.\w+)+)`", text)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [path for path in modules if not (ROOT / f"{path}.py").exists() and not (ROOT / path).exists()] == []


def test_the_readme_names_every_module_at_the_top_and_every_folder():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## File structure")[1].split("```")[1]
    named = {line.split("  ")[0] if line[0] != " " else line.split()[0] for line in tree.strip().splitlines()}
    core = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "r2a_core").glob("[a-z]*")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    folders = {f"{path.split('/')[0]}/" for path in tracked if "/" in path and not path.startswith(".")}
    assert core - named == {"prompt_texts.py"}  # on the line of prompts.py
    assert folders - named == set()
