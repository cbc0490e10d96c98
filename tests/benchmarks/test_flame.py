"""The stacks of a run, told by stage and by the project's own functions."""

from collections import Counter

from benchmarks.flame import boxes, short

MAKE, DVC = 'process 1:"python -m tools.repro"', 'process 2:"python /v/bin/dvc --wait-for-lock repro patch"'
PATCH = 'process 3:"python -m stages.patch smollm2_reasoner"'
ENTRY = "run_stage (/r/stages/_study.py:9);patch (/r/stages/patch.py:20)"


def test_a_stack_becomes_its_stage_and_the_project_s_functions() -> None:
    inner = "sweep (/r/r2a_core/patching/sweep.py:30);f (/v/torch/nn.py:2);run (/r/r2a_core/patching/packed.py:7)"
    assert short(f"{MAKE};{DVC};{PATCH};{ENTRY};{inner} 12") == (("patch", "sweep.sweep", "packed.run"), 12)
    assert short(f"{MAKE};{DVC};{PATCH};<module> (/r/stages/patch.py:5);_load (<frozen importlib._bootstrap>:1) 3") == (
        ("patch", "imports"),
        3,
    )
    grader = 'process 4:"python -m r2a_core.evaluation.sandbox"'
    shard = "shard (/r/r2a_core/infra/shards.py:3)"
    assert short(f"{MAKE};{DVC};{PATCH};{grader};{shard};grade (/r/r2a_core/evaluation/math.py:1) 2") == (
        ("patch", "math.grade"),
        2,
    )
    assert short(f"{MAKE};{DVC};main (/v/dvc/cli.py:4) 5") == (("DVC",), 5)


def test_boxes_lie_inside_their_callers_the_widest_first() -> None:
    stacks = Counter({("patch", "a"): 2, ("patch", "b"): 3, ("DVC",): 1, ("patch",): 1})
    assert list(boxes(stacks)) == [(0, "patch", 0.0, 6), (1, "b", 0.0, 3), (1, "a", 3.0, 2), (0, "DVC", 6.0, 1)]
