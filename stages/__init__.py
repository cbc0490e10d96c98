"""The pipeline's stages, one script each. They run in the study's folder: `python -m stages.NAME`, as dvc.yaml does."""

import gc
import os
import signal
import sys
import time
from typing import Any

if not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # no progress bars in a log; read once, at import

INTERRUPTED = "interrupted: what is finished is kept; dvc repro goes on from there"


def leave(*_: Any) -> None:
    """Ends a stage that Ctrl-C meets while its imports run, as run_stage ends it later."""
    print(INTERRUPTED, file=sys.stderr, flush=True)
    os._exit(130)


if sys.argv[0] == "-m":  # while python looks for a stage to run
    gc.disable()  # until run_stage: imports leave next to nothing to collect, and a search goes through all of them
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job is deaf to Ctrl-C
        signal.signal(signal.SIGINT, leave)

STARTED = time.time()  # s since 1970; the code of the project is imported after this
