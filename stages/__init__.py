"""The pipeline's stages, one script each. They run in the study's folder: `python -m stages.NAME`, as dvc.yaml does."""

import os
import sys
import time

if not sys.stderr.isatty():
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # no progress bars in a log; read once, at import

STARTED = time.time()  # s since 1970; the code of the project is imported after this
