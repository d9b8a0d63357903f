"""What every result is committed with: the machine it was measured on."""

from __future__ import annotations

import platform
from pathlib import Path


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
