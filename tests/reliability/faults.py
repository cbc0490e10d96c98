"""Random faults in a small study at random moments; afterwards every file must be that of an undisturbed run.

usage: make faults, or python -m tests.reliability.faults [--faults N] [--seed S] [--kind KIND] [--jobs N] [--base DIR]
A fault is made in a copy of the study (tests/reliability/small_study.py) while `make repro` works in it. Then params,
code and inputs are as before, and `make repro` is called until it ends. Prints a table by kind; exit code 1, with the
seed of each, when a file differs, a process or temporary file stays behind, a call is refused as busy or without a way
out, or DVC's run cache holds what its key did not make.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Lock as Mutex
from typing import Any

import polars as pl
import psutil
import yaml

from r2a_core.infra.files import write_frame
from tests.reliability.small_study import Disturbed, Lock, Reference, Run, read_lock, reference, run_cache, snapshot

TRIES = 4  # calls of make repro after a fault
MISSES = 3  # faults whose moment never came, until one is given up
GRACE = 5.0  # s that processes have to end after their parent
BUSY = re.compile(r"busy|already (writing|at work)|blocked by|is at work|Unable to acquire lock", re.IGNORECASE)
WAY_OUT = re.compile(r"\b(?:rm|git checkout) [^;,`]+|\bdvc (?:repro --force|checkout) \S+")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

EDITS: dict[str, dict[str, Any]] = {  # stage -> keys of params.yaml and other values
    "prepare_dataset": {"datasets.arithmetic.n": 5, "datasets.texts.instruction": " Think."},
    "prepare_model": {"models.trained.recipe.seed": 7, "models.local.dtype": "bfloat16"},
    "generate": {"generate.seed": 5, "generate.temperature": 0.9, "generate.max_new_tokens": 9},
    "judge": {"judge.seed": 5},
    "evaluate": {"evaluate.seed": 5, "evaluate.bootstrap_draws": 150},
    "capture": {"capture.limit": 2, "capture.dtype": "bfloat16"},
    "attention": {"attention.reflection_phrases": ["clearly"]},
    "heads": {"heads.retrieval.default.seed": 5, "heads.top": 3},
    "maps": {"maps.cells": 8, "maps.links": 3},
    "generate_pairs": {"pairs.generate.max_new_tokens": 9},
    "pairs": {"pairs.align.padding": "masked"},
    "capture_pairs": {"patch.capture.with_z": True},
    "patch": {"patch.crossing.seed": 5},
    "figures_attention": {"heads.walk.mass": 0.1},
    "figures_patching": {"patch.crossing.confidence": 0.5},
    "report": {"report.title": "Another title"},
}
WITH_WORKERS = ("evaluate@trained-texts", "evaluate@local-texts", "figures_attention")
OTHER_FRAME = """
_own_write_frame = write_frame


def write_frame(path, frame):
    _own_write_frame(path, frame.head(max(len(frame) - 1, 0)))


"""


class Missed(Exception):  # noqa: N818  not an error
    """The run was over before the fault's moment."""


@dataclass
class Outcome:
    """What became of one fault."""

    kind: str
    seed: str
    what: str = ""
    refused: int = 0  # runs that ended with a sentence
    wrong: list[str] = field(default_factory=list)  # files, entries of dvc.lock or of the run cache
    orphans: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # whatever else must not be
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return bool(self.wrong or self.orphans or self.problems)


@dataclass
class Scene:
    """One fault at work: the copy, the undisturbed study and what is found."""

    study: Disturbed
    whole: Reference
    outcome: Outcome
    references: "References"
    edited: dict[str, bytes] = field(default_factory=dict)  # files of an edit: what the run cache may have keys of

    @property
    def draw(self) -> Random:
        return self.study.draw

    @property
    def root(self) -> Path:
        return self.study.root

    def say(self, what: str) -> None:
        self.outcome.what += f"{what}; "

    def check(self, holds: object, problem: str) -> None:
        if not holds:
            self.outcome.problems.append(problem)

    def victims(self, among: Callable[[str], bool] = lambda stage: True) -> list[str]:
        """Makes one or two stages ones that never ran; returns them in their order."""
        stages = [stage for stage in self.whole.lock if among(stage)]
        chosen = self.draw.sample(stages, min(len(stages), self.draw.choice((1, 1, 2))))
        self.study.forget(chosen)
        self.say(f"to run: {' '.join(chosen)}")
        return sorted(chosen, key=list(self.whole.lock).index)

    def await_role(self, run: Run, role: str, stage: str = "") -> psutil.Process:
        """Waits until the run has a process of this role (of this stage)."""
        command = self.whole.lock[stage]["cmd"].split()[1:] if stage else []
        while run.alive():
            for process in run.by_role().get(role, []):
                try:
                    if process.cmdline()[1 : 1 + len(command)] == command:
                        return process
                except psutil.Error:
                    continue
            time.sleep(0.03)
        raise Missed

    def sleep_into(self, run: Run, seconds: float) -> None:
        """Sleeps for a random part of this time while the run is at work."""
        ends = time.monotonic() + self.draw.random() * seconds
        while run.alive() and time.monotonic() < ends:
            time.sleep(0.01)

    def spoken(self, run: Run, code: int, stopped: bool = False) -> None:
        """Notes how a run ended: one that was not stopped ends well, or with a sentence that names a way out."""
        sentence = run.sentence()
        if code and sentence:
            self.outcome.refused += 1
        self.check(code == 0 or sentence or stopped, f"ended with {code} and no sentence: {run.last()}")
        self.check("Traceback" not in run.output() or stopped, f"a traceback: {run.last()}")

    def edit(self, name: str, content: bytes) -> Callable[[], None]:
        """Replaces a file; returns what puts it back."""
        self.edited[name] = content
        return self.study.swap(name, content)

    def settle(self) -> None:
        """Calls make repro until it ends, as its sentences say, and compares everything with the undisturbed study."""
        followed = ""
        for _ in range(TRIES):
            run = self.study.make()
            code = run.wait()
            self.outcome.orphans += run.left(GRACE)
            if code == 0:
                break
            sentence = run.sentence()
            self.check(sentence, f"ended with {code} and no sentence: {run.last()}")
            self.check(not BUSY.search(run.output()), f"refused as busy: {run.last()}")
            if sentence is None or sentence[1] == followed:
                break
            self.outcome.refused += 1
            followed = sentence[1]
            for command in WAY_OUT.findall(followed):
                self.say(f"followed: {command}")
                self.study.start(*shlex.split(command)).wait()
        self.check(code == 0, f"never ended: {run.last()}")
        self.compare()

    def compare(self) -> None:
        """Notes all that differs from the undisturbed study."""
        wrong = self.outcome.wrong
        files = snapshot(self.root)
        wrong += sorted(name for name in files | self.whole.files if files.get(name) != self.whole.files.get(name))
        lock = read_lock(self.root)
        wrong += [f"dvc.lock: {name}" for name in lock | self.whole.lock if lock.get(name) != self.whole.lock.get(name)]
        there, expected = (
            {str(path.relative_to(root)) for path in visible(root)} for root in (self.root, self.whole.root)
        )
        wrong += [f"left behind: {name}" for name in sorted(there - expected)]
        wrong += [f"gone: {name}" for name in sorted(expected - there)]
        wrong += self.lies()

    def lies(self) -> list[str]:
        """Finds entries of the run cache whose outputs are not what their params and dependencies make."""
        truth = {entry["cmd"]: entry for entry in self.whole.lock.values()}
        names = {entry["cmd"]: name for name, entry in self.whole.lock.items()}
        found = []
        for place in run_cache(self.root):
            entry = yaml.load(place.read_bytes(), yaml.CSafeLoader)
            right = truth[entry["cmd"]]
            if key_of(entry) == key_of(right):
                outs = outs_of(right)
            elif self.edited and set(changed_places(entry, right)) <= set(self.edited) | {"params.yaml"}:
                outs = self.references.outs(names[entry["cmd"]], self.edited, key_of(entry))
            else:
                continue  # made from other files, which are judged by themselves
            if outs is not None and outs_of(entry) != outs:
                found.append(f"run cache: {names[entry['cmd']]} {changed_places(entry, right)}")
        return found


def visible(root: Path) -> list[Path]:
    """Lists what a user sees in a study, and temporary files wherever they lie."""
    places = [path for path in root.iterdir() if path.name != ".venv"]
    places += [path for name in ("r2a_core", "stages", "tools", "imports") for path in (root / name).rglob("*")]
    places += [path for name in (".work", ".dvc/tmp") for path in (root / name).rglob(".tmp-*")]
    return [path for path in places if "__pycache__" not in path.parts]


def key_of(entry: Lock) -> str:
    """What DVC looks an entry of the run cache up by."""
    deps = sorted((dep["path"], dep["md5"]) for dep in entry.get("deps", []))
    return json.dumps([deps, entry.get("params")], sort_keys=True)


def outs_of(entry: Lock) -> list[tuple[str, str]]:
    return sorted((out["path"], out["md5"]) for out in entry["outs"])


def changed_places(entry: Lock, right: Lock) -> list[str]:
    """Dependencies in which two entries differ; params.yaml for params."""
    mine, theirs = ({dep["path"]: dep["md5"] for dep in each.get("deps", [])} for each in (entry, right))
    differ = [place for place in mine | theirs if mine.get(place) != theirs.get(place)]
    return differ + (["params.yaml"] if entry.get("params") != right.get("params") else [])


class References:
    """Studies run undisturbed under other params or code, each once: of an edit, or with a part left out."""

    def __init__(self, whole: Reference, folder: Path) -> None:
        self.whole, self.folder = whole, folder
        self.mutex = Mutex()
        self.made: dict[str, Any] = {}

    def get(self, key: str, make: Callable[[Disturbed], Any]) -> Any:
        """Returns what `make` found in a copy, made when first asked for."""
        with self.mutex:
            if key not in self.made:
                folder = self.folder / f"reference-{len(self.made)}"
                self.made[key] = make(self.whole.copy(folder, Random(0)))
                shutil.rmtree(folder)
            return self.made[key]

    def outs(self, stage: str, edited: dict[str, bytes], key: str) -> list[tuple[str, str]] | None:
        """The outputs of a stage under an edit; None when they have another key (params edited twice, say)."""

        def make(study: Disturbed) -> Lock:
            for name, content in edited.items():
                (study.root / name).write_bytes(content)
            study.forget([stage])
            run = study.start("dvc", "repro", "--single-item", stage)
            return read_lock(study.root).get(stage, {}) if run.wait() == 0 else {}

        entry = self.get(f"{stage} {key}", make)
        return outs_of(entry) if entry and key_of(entry) == key else None

    def without(self, params: dict[str, Any]) -> Lock:
        """The dvc.lock of a study that never had a part, {} where it is refused."""

        def make(study: Disturbed) -> Lock:
            shutil.rmtree(study.root / "data")
            (study.root / "dvc.lock").unlink()
            write_params(study.root, params)
            return read_lock(study.root) if study.make().wait() == 0 else {}

        return self.get(json.dumps(params["run"]), make)


def read_params(root: Path) -> dict[str, Any]:
    return yaml.load((root / "params.yaml").read_bytes(), yaml.CSafeLoader)


def dumped(params: dict[str, Any]) -> bytes:
    return yaml.safe_dump(params, sort_keys=False, allow_unicode=True).encode()


def write_params(root: Path, params: dict[str, Any]) -> None:
    (root / "params.yaml").write_bytes(dumped(params))


def edited_params(root: Path, key: str, value: Any) -> bytes:
    """The text of params.yaml with another value at a key."""
    params = read_params(root)
    *sections, last = key.split(".")
    section = params
    for name in sections:
        section = section[name]
    assert section[last] != value, key
    section[last] = value
    return dumped(params)


# The faults. Each is made while a run works, and undone before it returns.


def edit_and_back(scene: Scene, stage: str, name: str, content: bytes) -> None:
    """Edits a file before or while a stage works, and puts it back while it works or later."""
    draw, seconds = scene.draw, scene.whole.seconds[stage]
    before, back_late = draw.random() < 0.5, draw.random() < 0.25
    scene.say(f"{name} edited {'before' if before else 'meanwhile'}, back {'after' if back_late else 'meanwhile'}")
    back = scene.edit(name, content) if before else None
    run = scene.study.make()
    try:
        scene.await_role(run, "stage", "" if before else stage)
        scene.sleep_into(run, seconds)
        if back is None:
            back = scene.edit(name, content)
            scene.sleep_into(run, seconds)
        if not back_late:
            back()
        finish(scene, run, seconds)
    except Missed:
        scene.spoken(run, run.wait())
        if not before:
            raise
    if back is not None and (back_late or before):
        undo(back)


def undo(back: Callable[[], None]) -> None:
    """Puts a file back unless it has been."""
    try:
        back()
    except FileNotFoundError:
        return


def finish(scene: Scene, run: Run, seconds: float) -> None:
    """Lets a run go on for a while; one that has more to do than the fault is about is then stopped by Ctrl-C."""
    ends = time.monotonic() + 2 * seconds + 5
    while run.alive() and time.monotonic() < ends:
        time.sleep(0.05)
    stopped = run.alive()
    if stopped:
        os.killpg(run.process.pid, signal.SIGINT)
    scene.spoken(run, run.wait(), stopped)
    scene.outcome.orphans += run.left(GRACE)


def params_edited(scene: Scene) -> None:
    (stage, *_) = scene.victims(lambda name: fitting(name) != {})
    key = scene.draw.choice(sorted(fitting(stage)))
    scene.say(key)
    edit_and_back(scene, stage, "params.yaml", edited_params(scene.root, key, fitting(stage)[key]))


def fitting(stage: str) -> dict[str, Any]:
    """Edits of params that change what a stage depends on."""
    name, _, item = stage.partition("@")
    own = EDITS.get(name, {})
    return {key: value for key, value in own.items() if key.split(".")[0] not in ("datasets", "models") or item in key}


def code_edited(scene: Scene) -> None:
    (stage, *_) = scene.victims()
    name = f"stages/{stage.partition('@')[0]}.py"
    if stage == "prepare_pairs":
        name = "stages/prepare_dataset.py"
    if scene.draw.random() < 0.4:
        deps = [scene.root / dep["path"] for dep in scene.whole.lock[stage]["deps"]]
        files = [file for dep in deps for file in ([dep] if dep.is_file() else sorted(dep.rglob("*.py")))]
        code = [str(file.relative_to(scene.root)) for file in files if file.suffix == ".py"]
        name = scene.draw.choice(code)
    old = (scene.root / name).read_text(encoding="utf-8")
    main = '\nif __name__ == "__main__":'
    new = old.replace(main, OTHER_FRAME + main) if "write_frame(" in old and main in old else old + "\n# an edit\n"
    edit_and_back(scene, stage, name, new.encode())


def input_replaced(scene: Scene) -> None:
    (stage, *_) = scene.victims(lambda name: tables(scene.root, scene.whole.lock[name]) != [])
    name = scene.draw.choice(tables(scene.root, scene.whole.lock[stage]))
    edit_and_back(scene, stage, name, other_table(scene, name))


def tables(root: Path, entry: Lock) -> list[str]:
    """Tables among the dependencies of a stage that have rows."""
    deps = [root / dep["path"] for dep in entry["deps"] if dep["path"].startswith("data/")]
    files = [file for dep in deps for file in ([dep] if dep.is_file() else sorted(dep.rglob("*")))]
    found = [str(file.relative_to(root)) for file in files if file.suffix == ".parquet"]
    return [name for name in found if len(pl.read_parquet(root / name))]


def other_table(scene: Scene, name: str) -> bytes:
    """The table without its last row, as its stage would write it."""
    frame = pl.read_parquet(scene.root / name)
    place = scene.root.parent / "other.parquet"
    write_frame(place, frame.head(len(frame) - 1))
    return place.read_bytes()


def killed(scene: Scene) -> None:
    """A signal to make, its child, dvc, the stage, a worker of it or all of them, at a random moment."""
    role = scene.draw.choice(("make", "repro", "repro", "stage", "stage", "worker", "group", "group"))
    stages = scene.victims(lambda name: role != "worker" or name in WITH_WORKERS)
    seconds = sum(scene.whole.seconds[stage] for stage in stages)
    number = scene.draw.choice(SIGNALS)
    run = scene.study.make()
    if scene.draw.random() < 0.8 or role in ("stage", "worker"):
        scene.await_role(run, "worker" if role == "worker" else "stage", scene.draw.choice(stages) * (role != "worker"))
    scene.sleep_into(run, 1 if role == "worker" else seconds)
    roles = run.by_role()
    if role == "repro" and "dvc" in roles and scene.draw.random() < 0.5:
        role = "dvc"
    scene.say(f"{number.name} to {role}")
    if not run.alive() or (role != "group" and role not in roles):
        raise Missed
    if role == "group":
        os.killpg(run.process.pid, number)
    else:
        scene.draw.choice(roles[role]).send_signal(number)
    ended(scene, run, role)


def ended(scene: Scene, run: Run, role: str) -> None:
    """Notes the end of a run that was sent a signal. Half of the time the next call comes at once."""
    code = run.wait()
    if code and role != "make" and run.sentence():
        scene.outcome.refused += 1
    if scene.draw.random() < 0.5:
        scene.outcome.orphans += run.left(GRACE)


def killed_in_lock(scene: Scene) -> None:
    """A signal while dvc.lock is being rewritten."""
    (stage, *_) = scene.victims()
    number, path = scene.draw.choice(SIGNALS), scene.root / "dvc.lock"
    size, delay = path.stat().st_size, scene.draw.random() * 0.2
    run = scene.study.make()
    scene.await_role(run, "stage", stage)
    roles = run.by_role()
    (dvc, *_) = [*roles.get("dvc", []), *roles.get("repro", []), run.process]
    while run.alive() and size_of(path) >= size:
        time.sleep(0.0005)
    time.sleep(delay)
    if not run.alive():
        raise Missed
    dvc.send_signal(number)
    ended(scene, run, "dvc")
    scene.say(f"{number.name} to dvc {delay:.2f} s into writing dvc.lock, of which {size_of(path)} bytes stay")


def size_of(path: Path) -> int:
    """Bytes of a file; -1 where none is."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def lock_cut(scene: Scene) -> None:
    """dvc.lock cut anywhere, committed or not, with or without a run before."""
    if scene.draw.random() < 0.5:
        scene.study.git("rm", "--cached", "dvc.lock")
        scene.study.git("commit", "--message", "without the lock")
        scene.say("not in git")
    if scene.draw.random() < 0.3:
        scene.say("after a run")
        scene.spoken(run := scene.study.make(), run.wait())
    scene.victims()
    content = (scene.root / "dvc.lock").read_bytes()
    place = scene.draw.choice((0, scene.draw.randrange(len(content))))
    (scene.root / "dvc.lock").write_bytes(content[:place])
    scene.say(f"dvc.lock cut at byte {place} of {len(content)}")


def cache_cut(scene: Scene) -> None:
    """What a kill leaves while DVC records a stage in its run cache: an empty folder, or one with half an entry."""
    before = {place: place.read_bytes() for place in run_cache(scene.root)}
    scene.victims()
    for place in before.keys() - set(run_cache(scene.root)):
        content = before[place]
        size = scene.draw.choice((0, scene.draw.randrange(len(content)), len(content)))
        place.parent.mkdir(parents=True)
        if size:
            (place.parent / ".X4Uq1Pz0aQ3c9d7K5m2e8A.tmp").write_bytes(content[:size])
        scene.say(f"{size} bytes of {len(content)} in the run cache")


def left_out(scene: Scene) -> None:
    """A part removed from `run`: what is made then has nothing of it."""
    original = (scene.root / "params.yaml").read_bytes()
    params = read_params(scene.root)
    kind = scene.draw.choice(("settings", "datasets", "models"))
    part = scene.draw.choice(params["run"][kind])
    params["run"][kind].remove(part)
    scene.say(f"without {part}")
    expected = scene.references.without(params)
    write_params(scene.root, params)
    run = scene.study.make()
    code = run.wait()
    scene.spoken(run, code)
    if code:
        scene.check(not expected, f"refused only where the part has been: {run.last()}")
        scene.check("Running stage" not in run.output(), f"stages ran before it was refused: {run.last()}")
    else:
        lock = read_lock(scene.root)
        other = [name for name, entry in expected.items() if lock.get(name) != entry]
        scene.outcome.wrong += [f"without {part}: {name}" for name in other]
    (scene.root / "params.yaml").write_bytes(original)


def local_changed(scene: Scene) -> None:
    """A file of the local model, or the imported texts, changed: it is noticed before anything is made of it."""
    name = scene.draw.choice(sorted(CHANGES))
    if scene.draw.random() < 0.5:
        scene.victims()
    scene.say(f"{name} changed")
    old = (scene.root / name).read_bytes()
    new = CHANGES[name](old)
    assert new != old
    back = scene.study.swap(name, new)
    of_file = "prepare_dataset@texts" if name.endswith("jsonl") else "prepare_model@local"
    run = scene.study.make()

    def noticed() -> bool:
        return f"Running stage '{of_file}'" in run.output() or run.sentence() is not None

    while run.alive() and not noticed():
        time.sleep(0.1)
    finish(scene, run, 0)
    scene.check(noticed(), f"a change of {name} was not seen")
    back()


def swapped_ids(content: bytes) -> bytes:
    """A tokenizer.json in which two tokens have each other's id."""
    values = json.loads(content)
    vocabulary = values["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[10:12]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    return json.dumps(values, ensure_ascii=False).encode()


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "imports/model/tokenizer.json": swapped_ids,
    "imports/model/config.json": lambda content: content.replace(b'"rms_norm_eps": 1e-06', b'"rms_norm_eps": 1e-05'),
    "imports/model/tokenizer_config.json": lambda content: content.rstrip() + b"\n\n",
    "imports/model/model.safetensors": lambda content: content[:-4] + bytes([content[-4] ^ 1]) + content[-3:],
    "imports/texts.jsonl": lambda content: content[: content.rstrip(b"\n").rindex(b"\n") + 1],
}


def experiment(scene: Scene) -> None:
    """dvc exp run -S: params.yaml differs afterwards in this key alone. Half of the time it is killed."""
    key, value = scene.draw.choice((("report.title", "Another"), ("evaluate.seed", 5), ("patch.crossing.seed", 5)))
    original, before = (scene.root / "params.yaml").read_bytes(), read_params(scene.root)
    expected = yaml.safe_load(edited_params(scene.root, key, value))
    run = scene.study.start("dvc", "exp", "run", "--set-param", f"{key}={value}")
    if scene.draw.random() < 0.5:
        number = scene.draw.choice(SIGNALS)
        scene.sleep_into(run, 4 + 2 * scene.whole.seconds["report"])
        scene.say(f"{key}, {number.name} to dvc exp run")
        run.process.send_signal(number)
        run.wait()
        scene.outcome.orphans += run.left(GRACE)
        scene.check(read_params(scene.root) in (before, expected), "params.yaml holds something else")
    else:
        scene.say(key)
        code = run.wait()
        scene.spoken(run, code)
        scene.check(read_params(scene.root) == expected, "params.yaml holds something else")
    (scene.root / "params.yaml").write_bytes(original)


def reused_pid(scene: Scene) -> None:
    """DVC's record of a killed writer whose process id something else has now, or half a record."""
    (stage, *_) = scene.victims()
    info = {"pid": os.getpid(), "cmd": "dvc repro"}
    place = str(scene.root / scene.whole.lock[stage]["outs"][0]["path"])
    content = json.dumps(scene.draw.choice(({"write": {place: info}}, {"read": {place: [info]}, "write": {}})))
    if scene.draw.random() < 0.3:
        content = content[: scene.draw.randrange(len(content))]
    scene.say(f".dvc/tmp/rwlock holds {content[:9]}… ({len(content)} bytes)")
    (scene.root / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    (scene.root / ".dvc" / "tmp" / "rwlock").write_text(content, encoding="utf-8")


KINDS: dict[str, Callable[[Scene], None]] = {
    "params": params_edited,
    "kill": killed,
    "code": code_edited,
    "lock-write": killed_in_lock,
    "input": input_replaced,
    "lock-cut": lock_cut,
    "cache-cut": cache_cut,
    "left-out": left_out,
    "local": local_changed,
    "exp-run": experiment,
    "reused-pid": reused_pid,
}
ORDER = ("params", "kill", "code", "lock-write", "kill", "input", "lock-cut", "params", "kill", "local", "left-out")
ORDER = (*ORDER, "exp-run", "kill", "reused-pid", "cache-cut")


def one_fault(kind: str, seed: str, whole: Reference, references: References, folder: Path) -> Outcome:
    """Makes a fault of a kind in a copy and judges what comes after; the copy stays where something failed."""
    outcome, started = Outcome(kind, seed), time.monotonic()
    for attempt in range(MISSES):
        place = folder / f"{seed}-{attempt}"
        study = whole.copy(place, Random(f"{seed} {attempt}"))
        scene = Scene(study, whole, outcome, references)
        try:
            outcome.what = ""
            KINDS[kind](scene)
            scene.settle()
        except Missed:
            scene.say("missed")
        except AssertionError as error:
            outcome.problems.append(str(error))
        finally:
            for run in study.runs:
                outcome.orphans += run.left(0 if outcome.failed else GRACE)
        if not outcome.failed:
            shutil.rmtree(place)
        if outcome.failed or not outcome.what.endswith("missed; "):
            break
    outcome.seconds = time.monotonic() - started
    return outcome


def report(outcome: Outcome, number: int, folder: Path) -> None:
    """Prints a line of one fault, and what failed."""
    word = "FAILED" if outcome.failed else "ok"
    print(f"{number:3d} {word:6} {outcome.kind:10} {outcome.seconds:5.0f} s  {outcome.what}", flush=True)
    for name, lines in (("wrong", outcome.wrong), ("orphan", outcome.orphans), ("problem", outcome.problems)):
        for line in lines[:12]:
            print(f"      {name}: {line}", flush=True)
    if outcome.failed:
        print(f"      seed {outcome.seed}; kept in {folder}", flush=True)


def table(outcomes: list[Outcome]) -> str:
    """The table by kind, in Markdown."""
    lines = [
        "| kind | faults | runs refused with a sentence | wrong files | orphans | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for kind in (*KINDS, "all"):
        own = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        if own:
            refused, seconds = sum(each.refused for each in own), sum(each.seconds for each in own)
            wrong, orphans = sum(len(each.wrong) for each in own), sum(len(each.orphans) for each in own)
            lines.append(f"| {kind} | {len(own)} | {refused} | {wrong} | {orphans} | {seconds:.0f} |")
    return "\n".join(lines)


def disturb(faults: Sequence[tuple[str, str]], jobs: int, base: Path | None = None) -> list[Outcome]:
    """Makes faults, given as kind and seed, side by side."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    whole = reference((base or folder / "base").resolve() / "study")
    references = References(whole, folder)
    print(
        f"undisturbed: {len(whole.lock)} stages, {len(whole.files)} files, {sum(whole.seconds.values()):.0f} s",
        flush=True,
    )
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(lambda fault: one_fault(fault[0], fault[1], whole, references, folder), faults):
            outcomes.append(outcome)
            report(outcome, len(outcomes), folder)
    if not any(outcome.failed for outcome in outcomes):
        shutil.rmtree(folder)
    return outcomes


def main() -> int:
    options = argparse.ArgumentParser(prog="make faults")
    options.add_argument("--faults", type=int, default=60)
    options.add_argument("--seed", default=str(Random().randrange(10**6)))
    options.add_argument("--kind", choices=KINDS)
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults at a time")
    options.add_argument("--base", type=Path, help="folder of the undisturbed study; made there if it has none")
    options.add_argument("--one", help="seed of a single fault, as a failure names it; needs --kind")
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    kinds = (given.kind,) if given.kind else ORDER
    faults = [(kinds[number % len(kinds)], f"{given.seed}-{number}") for number in range(given.faults)]
    started = time.monotonic()
    outcomes = disturb([(given.kind, given.one)] if given.one else faults, given.jobs, given.base)
    failed = [outcome for outcome in outcomes if outcome.failed]
    print(f"{table(outcomes)}\n{len(outcomes)} faults in {time.monotonic() - started:.0f} s, {len(failed)} failed")
    for outcome in failed:
        print(f"again: python -m tests.reliability.faults --kind {outcome.kind} --one {outcome.seed}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
