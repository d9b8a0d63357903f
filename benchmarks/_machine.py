"""What every result is committed with: the machine it was measured on."""

from __future__ import annotations

import compileall
import platform
from pathlib import Path

import pomona


def machine() -> dict[str, str]:
    """Processor, Python and system, as far as the system tells them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def compile_package() -> None:
    """Write this package's bytecode, as pip does for what it installs: a checkout may have none."""
    compileall.compile_dir(Path(pomona.__file__).parent, quiet=1)
