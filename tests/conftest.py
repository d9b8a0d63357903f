"""Every test: no deadlines (speed lives in benchmarks), one thread, no hub, no waiting for disks that nobody pulls out."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
settings.register_profile("plain", deadline=None, max_examples=50)
settings.load_profile("plain")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the Trainer collects garbage after each training and need not look through it again."""
    os.fsync = _nothing  # what a killed process wrote, the system still has
    gc.collect()
    gc.freeze()


def _nothing(descriptor: object) -> None: ...
