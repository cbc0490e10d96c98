"""The sentences about the walks of a model's heads, made from the records of walks/summary.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from r2a_core.results import VIEWS
from r2a_core.walks.summary import FIRST
from r2a_core.wording import SIGNIFICANT, compared, estimate, side, signed


def sentences(record: Mapping[str, Any], pooled: Mapping[str, Any]) -> list[str]:
    """Say what the record of one dataset holds, and what all datasets of the model say of wrong answers."""
    said = [reading_sentence(record), walk_sentence(record), ends_sentence(record["ends"])]
    views = [view_sentence(view, own) for view, own in record["views"].items()]
    return [*said, broken_sentence(pooled["walk"]), *views]


def reading_sentence(record: Mapping[str, Any]) -> str:
    """Say how many heads read the reasoning beyond its length, and what length does to their scores."""
    mass, even, near = (signed(record["length"][name]["median"]) for name in ("mass", "even_excess", "excess"))
    first, n_heads = record["first_dropped"], record["n_heads"]
    return (
        f"{record['reading']} of {n_heads} heads read the reasoning more than even reading does, sinks left out, and "
        f"not evenly; of the {min(FIRST, n_heads)} with the most mass {len(first)} do not{listed(first)}. With the "
        f"length of the reasoning, over traces, a head's mass goes at r = {mass} (median over heads), its mass beyond "
        f"even reading at {even}, beyond reading by distance at {near}."
    )


def walk_sentence(record: Mapping[str, Any]) -> str:
    """Say what shape the best walks have, and whether the same heads walk over the question."""
    best, asked = record["best"], record["question"]
    if not best["heads"]:
        return "No head walks over half of the traces (heads.walk), so nothing is asked of the other half."
    text = (
        f"The best walks{listed(best['heads'])}, for each trace chosen by the half of the traces that it is not in, "
        f"means over traces: {signed(best['diagonal'])} of the diagonal (by "
        f"chance {signed(best['diagonal_null'])}), forward in {signed(best['local_cover'])} of their windows (by "
        f"chance about 0.5), over {signed(best['covered'])} of the reasoning, {signed(best['parallel'])} paths side by "
        "side."
    )
    if asked is not None:
        text += (
            f" Over the reasoning they walk at r = {signed(asked['walk'])}, which is "
            f"{compared(asked['low'], asked['high'], 'over the question')}, {signed(asked['question_walk'])} "
            f"(difference {estimate(asked)}, n = {asked['n_traces']})."
        )
    return text


def ends_sentence(ends: Mapping[str, Any] | None) -> str:
    """Say whether paths end near reflection phrases."""
    if ends is None:
        return "No trace has both a path that ends and a reflection phrase, so where walks end is not asked."
    away = f"{ends['distance']:.3f} of the reasoning away, {ends['chance']:.3f} from those of another trace"
    if ends["p"] is None:
        return f"Whether paths end near reflection phrases cannot be told: {away} (n = {ends['n_traces']})."
    near = "end nearer to" if ends["p"] < SIGNIFICANT else "cannot be told to end nearer to"
    return f"Paths {near} a reflection phrase than by chance: {away} (p = {ends['p']:.2g}, n = {ends['n_traces']})."


def broken_sentence(found: Mapping[str, Any]) -> str:
    """Say whether a broken walk goes with a wrong answer."""
    wrong = f"{found['n_wrong']} of {found['n']} answers are wrong"
    if found["odds_ratio"] is None:
        return f"Whether a broken walk goes with a wrong answer cannot be told: {wrong} ({found['reason']})."
    same = "is an effect" if side(found["low"], found["high"], at=1) else "cannot be told from no effect"
    return (
        f"Over all datasets, a walk worse by one standard deviation multiplies the odds of a wrong answer by "
        f"{found['odds_ratio']:.2f}, which {same} (95% {found['low']:.2f} to {found['high']:.2f}, p = "
        f"{found['p']:.2g}, the length of the reasoning held; {wrong})."
    )


def view_sentence(view: str, record: Mapping[str, Any]) -> str:
    """Say what the reasoning's own rows read of the question, or of the reasoning before them."""
    (rows, read), excess, first = VIEWS[view], record["excess"], record["first_by_excess"]
    more = compared(excess["low"], excess["high"], "what reading by distance gives")
    most = f"those with most mass beyond distance are {', '.join(first[:3])}; " if first else ""
    return (
        f"The tokens of the {rows} give {signed(record['mass'])} of their attention to {read} (mean over "
        f"heads), which is {more} (difference {estimate(excess, 3)}, n = {record['n_traces']}). {record['reading']} of "
        f"{record['n_heads']} heads read it more than even reading does, sinks left out, and not evenly; {most}the "
        f"first {len(first)} of these and the answer's have {record['shared']} in common."
    )


def listed(heads: Sequence[str]) -> str:
    """Write names in brackets, nothing without any."""
    return f" ({', '.join(heads)})" if heads else ""
