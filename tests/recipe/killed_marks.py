"""Train a step with a kept checkpoint in a child that kills itself once the result is whole but has
not got its name, and then in one that goes on.

python killed_marks.py MODEL ITEMS FOLDER: the result is FOLDER/result.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import torch
import transformers.models.llama.modeling_llama
import transformers.trainer

import pomona.train.trainer
from pomona.files import atomic_directory
from pomona.recipe.steps import Runtime, StepContext, training

assert transformers and pomona  # what the children would each load
torch.set_num_threads(1)
gc.freeze()
model, items, folder = map(Path, sys.argv[1:])
settings = {"seed": 0, "tokens": 600, "batch_tokens": 128, "save_every": 2, "dtype": "float32"}
params = {"chat": False, "max_tokens": 64, "settings": settings}


def child(kill: bool) -> None:
    torch.set_num_threads(1)  # a fork makes its pool anew: two threads at once spoil it
    (folder / "scratch").mkdir(exist_ok=True)
    with atomic_directory(folder / "result") as out:
        inputs = {"model": model, "items": items}
        step = StepContext(params, inputs, out, folder / "scratch", Runtime("cpu"), lambda *_: None)
        training.train_and_save(step, *training.trainable(step), checkpoints=(0.25, 0.5))
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)


for kill in (True, False):
    process = os.fork()
    if process == 0:
        child(kill)
        os._exit(0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n")
