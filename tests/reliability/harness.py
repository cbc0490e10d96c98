"""Kills stages, and dvc above them, at random moments, goes on and compares every byte of data/.

usage: python -m tests.reliability.harness [FOLDER] [ROUNDS]      (prints a table; ROUNDS repeats of every way to kill)

A run is killed when a random number of its shards are finished and a random part of a shard's time later. A stage that
is killed by itself is started by fork (see zygote) and goes on by the same; where dvc is named, commands are those that
a user types. `computed again` in the table is the number of shards that two runs worked on: begun and not finished when
the signal came. A finished shard that is computed anew raises an error.
"""

import fcntl
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from tests.reliability.small_project import Project, small_project
from tests.reliability.zygote import Zygote

POLL, LIMIT = 0.002, 240.0  # s between looks at the work store; s for one command
TRIES = 5  # where a stage ends before it is killed
TRAINING = 1.0  # s that a model of three steps takes, about
# What SIGKILL hits: the stage (twice), the stage that dvc started, dvc, and then, for every other stage, what it left.
WAYS = ("stage", "stage, again", "stage under dvc")
LAST_WAYS = ("dvc", "dvc, then stage")
STAGES = {  # stage@item of the small study: script and arguments, folder of its shards in the work store
    "prepare_model@trained": (("prepare_model", "trained"), "prepare_model/trained"),
    "generate@memorised-arithmetic-with_reasoning": (
        ("generate", "memorised", "arithmetic", "with_reasoning"),
        "generate/memorised-arithmetic-with_reasoning",
    ),
    "capture@memorised-texts-with_reasoning": (
        ("capture", "memorised", "texts", "with_reasoning"),
        "capture/memorised-texts-with_reasoning",
    ),
    "attention@memorised-texts-with_reasoning": (
        ("attention", "memorised", "texts", "with_reasoning"),
        "attention/memorised-texts-with_reasoning",
    ),
    "generate_pairs@memorised": (("generate_pairs", "memorised"), "generate_pairs/memorised"),
    "capture_pairs@memorised": (("capture_pairs", "memorised"), "capture_pairs/memorised"),
    "patch@memorised": (("patch", "memorised"), "patch/memorised"),
}
FINAL = [name for name in STAGES if not name.startswith(("generate_pairs", "capture_pairs"))]  # patch needs those two
REFUSED = "another run is already writing"
KILLS = [(stage, way) for number, stage in enumerate(STAGES) for way in (*WAYS, LAST_WAYS[number % len(LAST_WAYS)])]


@dataclass(frozen=True)
class Trial:
    """One kill and what came after."""

    stage: str
    way: str
    finished: int  # shards, when the signal came
    again: int  # shards that were begun, not finished, and so computed a second time
    total: int  # shards
    seconds: float  # of the dvc repro that went on


@dataclass(frozen=True)
class Study:
    """A small project after an undisturbed run, and what that run left."""

    project: Project
    snapshot: dict[str, str]  # path below data/ -> SHA-256
    totals: dict[str, int]  # stage -> its shards
    paces: dict[str, float]  # stage -> seconds from one finished shard to the next; of training as a whole, about
    zygote: Zygote
    draw: random.Random


def undisturbed(project: Project, zygote: Zygote, draw: random.Random) -> Study:
    """Runs everything once."""
    project.run("dvc", "repro", *FINAL)
    shards = {stage: finished_shards(project, stage) for stage in STAGES}
    totals = {stage: len(found) for stage, found in shards.items()}
    return Study(
        project, project.snapshot(), totals, {stage: pace(found) for stage, found in shards.items()}, zygote, draw
    )


def pace(shards: dict[str, int]) -> float:
    """Seconds from one finished shard to the next, on average; TRAINING for work without shards."""
    times = sorted(shards.values())
    return (times[-1] - times[0]) / 1e9 / (len(times) - 1) if len(times) > 1 else TRAINING


def finished_shards(project: Project, stage: str) -> dict[str, int]:
    """Finished shards of a stage: fingerprint -> when the last of its files was finished, in ns.

    The statistics of attention are two files of one fingerprint, which come from one computation.
    """
    found: dict[str, list[int]] = {}
    for file in (project.work / STAGES[stage][1]).glob("*.sha256"):
        if not file.name.startswith(".tmp-"):
            found.setdefault(file.name.split(".")[0], []).append(file.stat().st_mtime_ns)
    files = 2 if stage.startswith("attention") else 1
    return {name: max(times) for name, times in found.items() if len(times) == files}


def forget(project: Project, stage: str) -> None:
    """Removes the shards of a stage and all that DVC knows of its runs: it stands as before its first run."""
    folder = project.work / STAGES[stage][1]
    for path in (folder, project.root / ".dvc" / "cache" / "runs"):
        shutil.rmtree(path, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)
    lock = project.root / "dvc.lock"
    known = yaml.safe_load(lock.read_text(encoding="utf-8"))
    known["stages"].pop(stage, None)
    lock.write_text(yaml.safe_dump(known), encoding="utf-8")


def start(project: Project, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, with its output in a file. SIGINT works there, as in a terminal."""

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=project.root,
            env=project.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=listen,
        )


def stage_process(dvc: psutil.Process, stage: str) -> psutil.Process | None:
    """The stage script that a dvc process has started; None before it has."""
    module = f"stages.{STAGES[stage][0][0]}"
    for child in dvc.children(recursive=True):
        try:
            command = child.cmdline()
        except psutil.Error:
            continue
        if module in command and Path(command[0]).name.startswith("python"):
            return child
    return None


def await_moment(study: Study, stage: str, process: psutil.Process) -> psutil.Process | None:
    """Waits for a random moment of a stage's work and halts the stage; its process, or None where it was done by then.

    process: the stage, or the dvc above it.
    """
    lock, ends = (study.project.work / STAGES[stage][1]).with_suffix(".lock"), time.monotonic() + LIMIT
    wanted = study.draw.randrange(max(study.totals[stage], 1))
    while not lock.exists() or len(finished_shards(study.project, stage)) < wanted:
        assert process.status() != psutil.STATUS_ZOMBIE, f"{stage} ended before the moment to kill it"
        assert time.monotonic() < ends, f"{stage} takes longer than {LIMIT} s"
        time.sleep(POLL)
    time.sleep(study.draw.random() * study.paces[stage])
    script = stage_process(process, stage) if "dvc" in process.name() else process
    if script is None or script.status() == psutil.STATUS_ZOMBIE:
        return None
    script.suspend()
    if is_held(lock):
        return script
    script.resume()
    return None


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock of a stage: it still writes."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def kill_once(study: Study, stage: str, way: str, log: Path) -> Trial:
    """One run of a stage that is killed, a second run, and a comparison with the undisturbed run.

    Raises AssertionError when a byte differs, a temporary file stays, a finished shard is computed anew or two write.
    """
    for _ in range(TRIES):
        forget(study.project, stage)
        by_fork = way.startswith("stage") and "dvc" not in way
        trial = kill_stage(study, stage, way, log) if by_fork else kill_under_dvc(study, stage, way, log)
        if trial is not None:
            return trial
    raise AssertionError(f"{stage} was quicker than the harness {TRIES} times")


def kill_stage(study: Study, stage: str, way: str, log: Path, number: signal.Signals = signal.SIGKILL) -> Trial | None:
    """A kill of a stage by itself, started by fork; None where it ended first."""
    pid = study.zygote.start(log, *STAGES[stage][0])
    script = await_moment(study, stage, psutil.Process(pid))
    if script is not None:
        script.send_signal(number)
        script.resume()
    code = study.zygote.wait(pid)
    if script is None:
        return None
    assert code == (130 if number == signal.SIGINT else -number), log.read_text()
    return resume(study, stage, way, log)


def kill_under_dvc(study: Study, stage: str, way: str, log: Path) -> Trial | None:
    """A kill of dvc, or of the stage that it started; None where the stage ended first."""
    command = ["dvc", "repro", "--single-item", stage]
    dvc = start(study.project, command, log)
    script = await_moment(study, stage, psutil.Process(dvc.pid))
    if script is None:
        dvc.wait()
        return None
    if way == "stage under dvc":
        script.kill()
        assert dvc.wait() != 0
        return resume(study, stage, way)
    dvc.kill()
    dvc.wait()
    refuse_second_writer(study.project, command)  # while the stage, halted, holds the lock
    if way == "dvc, then stage":
        script.kill()
    script.resume()
    psutil.wait_procs([script], timeout=LIMIT)
    return resume(study, stage, way)


def refuse_second_writer(project: Project, command: Sequence[str]) -> None:
    """Checks that the stage left behind by a killed dvc keeps a new dvc out."""
    second = project.run(*command, check=False)
    assert second.returncode == 255, second.stderr
    assert REFUSED in second.stderr
    assert "Traceback" not in second.stderr


def resume(study: Study, stage: str, way: str, log: Path | None = None) -> Trial:
    """The run after a kill, by fork with a log and else by dvc."""
    project, began = study.project, time.monotonic()
    before = finished_shards(project, stage)
    if log is not None:
        assert study.zygote.run(log, *STAGES[stage][0]) == 0, log.read_text()
    else:
        output = project.run("dvc", "repro", "--single-item", stage).stdout
        assert f"Running stage '{stage}'" in output, output
    seconds = time.monotonic() - began
    after, total = finished_shards(project, stage), study.totals[stage]
    kept = [name for name, when in before.items() if after.get(name) == when]
    assert len(kept) == len(before), f"{stage}: a finished shard was computed anew"
    assert len(after) == total
    assert project.leftovers() == []
    assert project.snapshot() == study.snapshot, f"{stage}: the bytes differ from those of the undisturbed run"
    pieces = max(total, 1)  # a trained model is one piece of work
    again = 0 if way == "dvc" and total else min(1, pieces - len(before))  # a stage left alone finishes its shards
    return Trial(stage.split("@")[0], way.removesuffix(", again"), len(before), again, pieces, seconds)


def table(trials: Sequence[Trial]) -> str:
    """One line a stage and way, as Markdown."""
    lines = ["| stage | SIGKILL to | kills | shards | finished when killed | computed again | s to resume |"]
    lines.append("|---|---|---|---|---|---|---|")
    for stage, way in dict.fromkeys((trial.stage, trial.way) for trial in trials):
        own = [trial for trial in trials if (trial.stage, trial.way) == (stage, way)]
        finished = ", ".join(str(trial.finished) for trial in own)
        seconds = sum(trial.seconds for trial in own) / len(own)
        again = max(trial.again for trial in own)
        lines.append(f"| {stage} | {way} | {len(own)} | {own[0].total} | {finished} | {again} | {seconds:.1f} |")
    lines.append(f"| all | | {len(trials)} | | | {max(trial.again for trial in trials)} | |")
    return "\n".join(lines)


def main(folder: Path, rounds: int) -> None:
    project, trials = small_project(folder / "project"), []
    with Zygote(project) as zygote:
        study = undisturbed(project, zygote, random.Random(0))
        print(f"undisturbed: {study.totals}, {len(study.snapshot)} files", file=sys.stderr, flush=True)
        for _ in range(rounds):
            for stage, way in KILLS:
                trials.append(kill_once(study, stage, way, folder / "killed.log"))
                print(trials[-1], file=sys.stderr, flush=True)
    print(table(trials))


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    main(place, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
