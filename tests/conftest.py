"""Every test: no deadlines (speed lives in benchmarks), one thread, no hub."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
settings.register_profile("plain", deadline=None, max_examples=50)
settings.load_profile("plain")
