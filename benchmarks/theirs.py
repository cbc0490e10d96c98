"""All ways of the peers by name: transformers' own, TransformerLens's hooks and nnsight's traces.

Each way is a function of a case that builds what it needs and returns a call to be timed; the call returns numbers to
be compared with ours.
"""

from benchmarks import theirs_hf, theirs_lens, theirs_nnsight

WAYS = theirs_hf.WAYS | theirs_lens.WAYS | theirs_nnsight.WAYS
