"""What a stage sees of its study, and how its command line ends, whatever goes wrong inside."""

import errno
import subprocess
import sys
import threading
from contextlib import chdir
from pathlib import Path

import pytest
from zc.lockfile import LockError, LockFile

from r2a_core.infra.errors import MissingPrerequisite
from r2a_core.infra.files import folder_digest, sha256
from r2a_core.infra.shards import FORMAT, fingerprint
from stages._guard import files
from stages._study import CODE, no_dvc_writing, open_study
from tests.study import PARAMS, ROOT, Study

HEAD = "from stages._study import run_stage\n\ndef command() -> None:\n"
CASES = {
    "raise R2AError('a is wrong', 'mend a')": (2, "error: a is wrong\nhint: mend a\n"),
    "raise MissingPrerequisite('no GPU', 'use R2A_DEVICE=cpu')": (3, "error: no GPU\nhint: use R2A_DEVICE=cpu\n"),
    "raise KeyboardInterrupt": (130, "interrupted: what is finished is kept; dvc repro goes on from there\n"),
    "raise MemoryError": (3, "error: out of memory: MemoryError\n"),
    "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried')": (3, "error: out of memory: CUDA out of"),
    f"raise OSError({errno.ENOSPC}, 'full', '/a/b')": (3, "error: /a/b cannot be written: No space left on device"),
    f"raise OSError({errno.EROFS}, 'no', '/a/b')": (3, "error: /a/b cannot be written: Read-only file system\nhint: "),
}


def run(body: str) -> "subprocess.CompletedProcess[str]":
    """A stage whose command does `body`."""
    code = f"from r2a_core.infra.errors import MissingPrerequisite, R2AError\n{HEAD}    {body}\n\nrun_stage(command)\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(("body", "expected"), CASES.items(), ids=list(CASES))
def test_known_trouble_is_a_sentence_with_a_hint(body: str, expected: tuple[int, str]) -> None:
    found = run(body)
    assert (found.returncode, found.stdout) == (expected[0], "")
    assert found.stderr.startswith(expected[1])
    assert "Traceback" not in found.stderr


def test_a_bug_keeps_its_traceback_and_a_missing_argument_is_a_usage_error() -> None:
    found = run("[][0]")
    assert found.returncode == 1
    assert "IndexError: list index out of range" in found.stderr
    command = [sys.executable, "-m", "stages.prepare_dataset"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_sees_the_sections_that_dvc_yaml_declares_and_no_others(study: Study) -> None:
    with chdir(study.root):
        seen = open_study("judge", model="tiny", dataset="texts")
    assert seen.sections == ("judge", "run")
    assert (list(seen.values), seen.values["judge"]) == (["judge", "run"], PARAMS["judge"])
    assert seen.params.judge.max_tokens == PARAMS["judge"]["max_tokens"]
    with pytest.raises(AttributeError):
        _ = seen.params.generate
    assert seen.item == "tiny-texts"
    assert seen.resources.executor == "local"  # no stage declares it, every stage may ask

    assert seen.root == study.root
    assert seen.paths.judgements("tiny", "texts") == study.root / "data" / "judgements" / "tiny" / "texts.parquet"


def test_what_no_run_makes_says_what_the_run_lacks(study: Study) -> None:
    study.write_params(run=PARAMS["run"] | {"models": ["tiny"], "readers": [], "datasets": ["built_in_pairs"]})
    with chdir(study.root), pytest.raises(MissingPrerequisite) as caught:
        open_study("evaluate", model="tiny", dataset="texts")
    assert "no run makes it while run.datasets lacks 'texts'" in caught.value.message
    assert caught.value.hint.startswith("add texts to run.datasets")


def test_shards_depend_on_the_stage_s_code_and_the_model(study: Study) -> None:
    with chdir(study.root):
        seen = open_study("evaluate", model="tiny", dataset="texts")
    with seen.work("tiny") as work:
        first = work.base
        assert work.store.folder == study.root / ".work" / "evaluate" / "tiny-texts"
    assert "stages/evaluate.py" in seen.declared.code
    code = {name: sha256(path) for name, path in files(CODE, seen.declared.code)}
    assert first["code"] == fingerprint(format=FORMAT, code=code)
    assert first["model"] == folder_digest(study.paths.model("tiny"))
    (study.paths.model("tiny") / "tokenizer.json").write_text("{}")
    with seen.work("tiny") as work:
        assert work.base["model"] != first["model"]
        assert work.base["code"] == first["code"]


def test_the_lock_is_read_while_no_dvc_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC empties dvc.lock before it writes it, which stages side by side would see."""
    monkeypatch.setenv("R2A_LANES", "2")
    path = tmp_path / ".dvc" / "tmp" / "lock"
    path.parent.mkdir(parents=True)
    lock = tmp_path / "dvc.lock"
    lock.write_text("stages:\n  only:\n")
    held = LockFile(str(path))

    def finish() -> None:
        lock.write_text("whole")
        held.close()

    writer = threading.Timer(0.3, finish)
    writer.start()
    with no_dvc_writing(tmp_path):
        assert lock.read_text() == "whole"
        with pytest.raises(LockError):
            LockFile(str(path))
    writer.join()
    LockFile(str(path)).close()


def in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout


def test_stages_that_run_no_model_import_no_library_that_runs_one() -> None:
    heavy = ("capture", "attention", "read", "heads", "maps", "knockout", "walks", "perturb", "sentences", "patch")
    heavy = (*heavy, "generate", "generate_pairs", "capture_pairs", "prepare_model")
    light = [f"stages.{path.stem}" for path in (ROOT / "stages").glob("[a-z]*.py") if path.stem not in heavy]
    code = f"import sys, {', '.join(light)}\nprint({{'torch', 'transformers', 'scipy.stats'}} & {{*sys.modules}})"
    assert in_new_process(code) == "set()\n"


def test_nothing_is_collected_while_a_stage_is_imported() -> None:
    """A search goes through all that torch and transformers define, as Python's end does unless that is frozen."""
    code = "import sys, gc; sys.argv = ['-m']; import stages; print(gc.isenabled())\n"
    code += "from stages._study import run_stage; sys.argv = ['stages.one']\n"
    code += "run_stage(lambda: print(gc.isenabled(), gc.get_freeze_count() > 1000))"
    assert in_new_process(code) == "False\nTrue True\n"
