"""What each stage of a study asks of a model, counted before anything runs: forward passes, memory, disk.

StudyOf -> StageWork, one a stage. Where the core states what an arm, a patched row or a stored trace takes, its own
function is asked. Second attempts at questions that left the funnel are not counted.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.cases import LAST, PROBE
from benchmarks.memory_model import capture_account, statistics_account
from benchmarks.passes import PACKED, Passes, StageWork, StudyOf
from benchmarks.stand_ins import RESULT, STEM, any_heads, changed_trace, unchanged
from r2a_core.activations.capture import trace_bytes
from r2a_core.attention.patterns import GPU_ELEMENTS
from r2a_core.attention.retrieval import haystack_size
from r2a_core.config import SentencesParams
from r2a_core.infra.memory import MIB
from r2a_core.knockout.prefix import LOGIT_ROWS, View
from r2a_core.knockout.run import arm_bytes as cut_arm_bytes
from r2a_core.knockout.sets import Arm, chosen_sets, largest
from r2a_core.patching.packed import PatchSite, row_bytes, rows_per_pass, site_groups
from r2a_core.perturb.grid import cut_counts
from r2a_core.perturb.run import arm_bytes as changed_arm_bytes
from r2a_core.sentences.suppress import LOGIT_BYTES
from r2a_core.trace import TraceSegments
from r2a_core.walks.measures import PROFILE_ROWS

WRITTEN = 14  # answers to changes of one trace that are also written freely


def study_work(study: StudyOf) -> Iterator[StageWork]:
    """Every stage that runs the model or reads its activations, in the order of a run."""
    readers = [reading(study)] if study.params.run.readers else []
    yield from (answers(study), capture(study), attention(study), *readers, heads(study))
    if study.n_pairs:
        yield from (pair_answers(study), pair_capture(study), patching(study))
    yield from (knockouts(study), walks(study), perturbed(study), sentences(study))


def traces_of(study: StudyOf) -> list[TraceSegments]:
    """One trace of each setting."""
    return [study.lengths.trace, study.lengths.short_trace][: len(study.params.run.settings)]


def answers(study: StudyOf) -> StageWork:
    """Responses in all settings."""
    config, lengths, runs = study.params.generate, study.lengths, study.n_datasets * len(traces_of(study))
    items = study.items(None) / study.n_datasets
    shards = study.n_datasets * config.runs * -(-items // config.shard_items)
    each = items * config.runs * study.n_datasets / shards
    passes, size = study.decoding(shards, each, lengths.question, lengths.response, lengths.longest, config)
    if len(traces_of(study)) == 2:
        prompt = lengths.short_trace.think_close + 1
        passes += study.decoding(shards, each, prompt, lengths.without, 2 * lengths.without, config)[0]
    return StageWork("generate", runs, tuple(passes), device=size)


def capture(study: StudyOf) -> StageWork:
    """One pass a trace; nothing where the attention stage runs the model itself."""
    config, kinds = study.params.capture, traces_of(study)
    count = study.items(config.limit)
    if not config.store:
        return StageWork("capture", study.n_datasets * len(kinds))
    passes = tuple(study.whole(count, each.n_tokens) for each in kinds)
    kept = count * sum(trace_bytes(study.model.config, each, config) for each in kinds)
    account = capture_account(study.model.config, study.dtype, kinds[0], config)
    return StageWork("capture", study.n_datasets * len(kinds), passes, device=account.passing, kept=kept)


def row_weights(study: StudyOf, *rows: range) -> float:
    """Attention weights of some rows of one trace, over all heads."""
    return study.shape.n_layers * study.shape.n_heads * sum(len(each) * (each.stop - len(each) / 2) for each in rows)


def kept_rows(trace: TraceSegments, rows: str) -> list[range]:
    """Rows of a trace whose activations are stored."""
    return [trace.answer] if rows == "answer" else [trace.answer, trace.reasoning]


def attention(study: StudyOf) -> StageWork:
    """Statistics of answer and reasoning rows, from the shards or in the pass itself."""
    config, kinds = study.params.capture, traces_of(study)
    count, n_tokens = study.items(config.limit), kinds[0].n_tokens
    rows = config.rows if config.store else "all"
    weights = count * sum(row_weights(study, *kept_rows(each, rows)) for each in kinds)
    passes = () if config.store else tuple(study.whole(count, each.n_tokens) for each in kinds)
    stored = study.dtype if config.dtype == "auto" else config.dtype
    account = statistics_account(study.model.config, stored, n_tokens, n_tokens, GPU_ELEMENTS)
    return StageWork("attention", study.n_datasets * len(kinds), passes, weights, account.peak)


def reading(study: StudyOf) -> StageWork:
    """A reader of the same size: one pass a trace, with its statistics."""
    trace, count = study.lengths.trace, study.items(study.params.capture.limit)
    passes = (study.whole(count, trace.n_tokens),)
    return StageWork("read", study.n_datasets, passes, count * row_weights(study, *kept_rows(trace, "all")))


def heads(study: StudyOf) -> StageWork:
    """Induction and needle tests; a needle is written once, token by token, and read in a second pass."""
    induction, needle = study.params.heads.induction, study.params.heads.retrieval.of(study.name)
    repeats = study.whole(induction.sequences, 2 * induction.period + 1)
    if needle.needle == "question":
        return StageWork("heads", 1, (repeats, study.whole(needle.tests, study.lengths.trace.n_tokens)))
    mean = sum(haystack_size(needle, number) for number in range(needle.tests)) / needle.tests
    steps = Passes(needle.tests * needle.needle_tokens, 1, mean, study.shape.n_layers)
    return StageWork("heads", 1, (repeats, study.whole(2 * needle.tests, mean), steps))


def pair_answers(study: StudyOf) -> StageWork:
    """Greedy responses to both questions of each pair."""
    config, lengths, items = study.params.pairs.generate, study.lengths, 2 * study.n_pairs
    shards = -(-items // config.shard_items)
    passes, size = study.decoding(shards, items / shards, lengths.question, lengths.response, lengths.longest, config)
    return StageWork("generate_pairs", 1, tuple(passes), device=size)


def patched_tokens(study: StudyOf) -> tuple[int, list[int]]:
    """Tokens of an aligned pair, and which are patched: the last of the probe, `</think>` and the last of all."""
    close, stop = study.lengths.trace.think_close + PROBE, study.lengths.trace.n_tokens + PROBE
    return stop, [*range(close - PROBE + 1, close + 1), *range(stop - LAST, stop)]


def pair_capture(study: StudyOf) -> StageWork:
    """One clean pass a pair and probe."""
    count, shape, (n_tokens, tokens) = aligned_pairs(study), study.shape, patched_tokens(study)
    kept = count * shape.n_layers * len(tokens) * shape.d_model * shape.dtype.itemsize
    return StageWork("capture_pairs", 1, (study.whole(count, n_tokens),), kept=kept)


def aligned_pairs(study: StudyOf) -> int:
    return study.n_pairs * len(study.params.pairs.align.probes)


def patching(study: StudyOf) -> StageWork:
    """The corrupted run of each pair, and every layer and position."""
    count, shape, (n_tokens, tokens) = aligned_pairs(study), study.shape, patched_tokens(study)
    bound = study.params.patch.sweep.memory_mib * MIB
    device = min(bound, row_bytes(shape, tokens, n_tokens) * shape.n_layers)
    cells = packs(study, count, n_tokens, tokens, bound)
    return StageWork("patch", 1, (study.whole(count, n_tokens), *cells), device=device)


def packs(study: StudyOf, count: float, n_tokens: int, tokens: list[int], bound: int) -> Iterator[Passes]:
    """Passes of cells, a row for each layer: those that start at a layer skip the layers below."""
    shape = study.shape
    for places in site_groups(shape, [PatchSite((token,)) for token in tokens], n_tokens, bound):
        own = tokens[places.start : places.stop]
        slots, size = sum(n_tokens - token for token in own), rows_per_pass(shape, own, n_tokens, bound)
        for first in range(0, shape.n_layers, size):
            starts, layers = range(first, min(first + size, shape.n_layers)), shape.n_layers - first
            rows = slots * sum(shape.n_layers - start for start in starts) / layers
            yield replace(study.behind(count, rows, len(starts) * len(own), layers), slower=PACKED)


def walks(study: StudyOf) -> StageWork:
    """Rows of the stored traces: the answer's twice, of the reasoning's the last, and all for their own views."""
    config, trace, shape = study.params.capture, study.lengths.trace, study.shape
    count, reasoning = study.items(config.limit) if config.store else 0, trace.reasoning
    last = reasoning[-min(len(reasoning) - len(reasoning) // 2, PROFILE_ROWS) :]
    own = [reasoning] if len(study.params.walks.views) > 1 else []
    rows = trace.answer, trace.answer, *([last, *own] if config.rows == "all" else [])
    head_rows = count * shape.n_layers * shape.n_heads * len(trace.answer)
    return StageWork("walks", study.n_datasets, weights=count * row_weights(study, *rows), head_rows=head_rows)


def knockouts(study: StudyOf) -> StageWork:
    """The unchanged run of each trace, all sets of heads under each kind, and answers written anew."""
    config, trace, n_layers = study.params.knockout, study.lengths.trace, study.shape.n_layers
    sets = chosen_sets(any_heads(study), config, study.params.heads.walk)
    arms = {Arm.of(kind, each.heads) for each in sets for kind in config.kinds}
    layers = sum(n_layers - arm.first_layer for arm in arms) / len(arms)
    count, passes = study.items(config.traces), list[Passes]()
    for name in config.views:
        rows = trace.n_tokens - 2 - View.of(name, trace).first
        one = cut_arm_bytes(study.shape, unchanged(trace, name, rows))
        cut = study.packed(count, len(arms), one, config.memory_mib, study.behind(1, rows, rows, layers))
        blocks = math.ceil(rows / LOGIT_ROWS)
        passes += [replace(each, unembeddings=blocks) for each in (study.whole(count, trace.n_tokens, rows), cut)]
    if anew := config.anew:
        targets = [each for name in config.sets if (each := largest(sets, name, anew.k))]
        written = len(targets) + len(config.random.sets) * anew.draws + 1
        some, steps = study.items(anew.traces), min(2 * study.lengths.answer, anew.max_new_tokens)
        passes.append(Passes(some * steps, written, trace.n_tokens, n_layers, written, written))
        passes.append(study.whole(some, trace.n_tokens))
    return StageWork("knockout", study.n_datasets, tuple(passes), device=config.memory_mib * MIB)


def perturbed(study: StudyOf) -> StageWork:
    """Each trace once, forced answers after every change, and what the model writes on its own."""
    config, lengths, count = study.params.perturb, study.lengths, study.items(study.params.perturb.traces)
    mistakes, levels = config.free.mistakes if config.free else 0, len(config.levels)
    anew = {  # by family: arms of a trace, and the share of the reasoning that each computes anew
        **dict.fromkeys(("number", "option"), (3 * levels, 0.5)),
        **dict.fromkeys(("other", "filler", "paraphrase"), (1, 1.0)),
        "preempt": (3, 0.7),
        "mistake": (2 * mistakes, 0.5),
        "cut": (len(cut_counts(lengths.reasoning // lengths.sentence)), 0.0),
    }
    chosen = [anew[name] for name in (*config.families, "mistake", "cut")]
    n_arms = sum(arms for arms, _ in chosen)
    new = sum(arms * share for arms, share in chosen) / n_arms * lengths.reasoning
    one = changed_arm_bytes(study.shape, *changed_trace(lengths.trace, round(new)))
    forced = study.packed(count, n_arms, one, config.memory_mib, study.behind(1, new + STEM + RESULT, RESULT))
    some = count * n_arms / forced.count / 4  # arms of a pack that give another answer, about
    steps = Passes(forced.count * config.answer_tokens, some, forced.seen, forced.layers, some, some)
    passes = [study.whole(count, lengths.trace.n_tokens), forced, steps]
    if free := config.free:
        half, answer, close = lengths.reasoning / 2, lengths.answer, lengths.trace.think_close
        rest = 2 * mistakes * count / study.n_datasets, lengths.question + half, half, lengths.reasoning
        written = count if free.traces is None else min(count, study.items(free.traces))
        after = WRITTEN * written / study.n_datasets, close, answer, 2 * answer
        for case in (rest, after):
            passes += study.decoding(study.n_datasets, *case, free)[0] if case[0] else []
    kept = study.shape.n_layers * study.shape.kv_bytes * lengths.trace.think_close
    device = config.memory_mib * MIB + config.shard_traces * kept
    return StageWork("perturb", study.n_datasets, tuple(passes), device=device)


def scorings(config: SentencesParams) -> int:
    """How often the sentence matrix of a head is scored: as it is, as ranks, and shuffled."""
    return 2 + config.shuffles


def sentences(study: StudyOf) -> StageWork:
    """The unchanged run of each trace, the rows behind each sentence without it, and receiver heads."""
    config, lengths, trace, shape = study.params.sentences, study.lengths, study.lengths.trace, study.shape
    n = lengths.reasoning // lengths.sentence
    count, rows = study.items(config.traces), lengths.answer + lengths.reasoning / 2
    blocks = math.ceil(rows / max(1, config.memory_mib * MIB // (LOGIT_BYTES * shape.n_vocab)))
    hidden = replace(
        study.behind(count * (n + 1), rows, 2 * rows), unembeddings=1 + blocks, logit_bytes=divergence_bytes(study)
    )
    stored = study.params.capture.store and study.params.capture.rows == "all"
    some = study.items(study.params.capture.limit) if stored else 0
    scored = sum(n - proximity >= config.least for proximity in config.proximity)
    entries = some * scored * scorings(config) * shape.n_layers * shape.n_heads * n**2
    weights, device = some * row_weights(study, trace.reasoning), config.memory_mib * MIB
    passes = study.whole(count, trace.n_tokens), hidden
    return StageWork("sentences", study.n_datasets, passes, weights, device=device, entries=entries)


def divergence_bytes(study: StudyOf) -> float:
    """Bytes that `suppress.hide` moves for one of two rows and an entry of the vocabulary.

    Float32 numbers that both rows together read and write: their log-softmax 4, an exponential 2, a difference 3, a
    product 3, a sum 1. Each row's logits are written in the model's type before, and converted where that is another.
    """
    size = study.shape.dtype.itemsize
    return 13 * 4 / 2 + size + (size + 4 if size < 4 else 0)
