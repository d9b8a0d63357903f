"""The table of compiled loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from pomona.merge.methods import common, run
from pomona.merge.plan import TensorInput, TensorJob


def test_a_second_process_needs_no_compiler():
    job = TensorJob(
        "x",
        (3,),
        "F32",
        "linear",
        (TensorInput(0, "x", "F32", {"weight": 2.0}),),
        None,
        "F32",
        {"normalize": False},
    )
    run(job, [np.ones(3, np.float32)])
    script = (
        "import sys, numpy as np\n"
        "from pomona.merge.plan import TensorInput, TensorJob\n"
        "from pomona.merge.methods import run\n"
        "job = TensorJob('x', (3,), 'F32', 'linear', (TensorInput(0, 'x', 'F32', {'weight': "
        "2.0}),), None, "
        "'F32', {'normalize': False})\n"
        "assert run(job, [np.ones(3, np.float32)]).tolist() == [2, 2, 2]\n"
        "print('numba' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_every_module_that_is_compiled_counts_as_source():
    folder = Path(str(common.__file__)).parent
    compiled = {
        path.stem for path in folder.glob("*.py") if "from numba import" in path.read_text()
    }
    assert compiled == set(common.LOOPS.sources)
