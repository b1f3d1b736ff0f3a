"""How does `fakenvml.c` become the library that NVIDIA's binding loads?"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("fakenvml.c")
LIBRARY = "libnvidia-ml.so.1"


def compiler() -> str | None:
    """Path of a C compiler; None when this machine has none."""
    return shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")


def build(folder: Path, *, without: Sequence[str] = ()) -> Path:
    """Compile the library into a folder, lacking some functions, as an older driver's does.

    Raises FileNotFoundError without a compiler, and subprocess.CalledProcessError with its words in `stderr`.
    """
    cc = compiler()
    if cc is None:
        raise FileNotFoundError("no C compiler: install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    library, exports = folder / LIBRARY, folder / "exports.map"
    missing = "".join(f" {name};" for name in without)
    exports.write_text(f"{{ global: nvml*; local:{missing} *; }};\n")
    flags = ("-O2", "-shared", "-fPIC", "-pthread", f"-Wl,-soname,{LIBRARY}", f"-Wl,--version-script={exports}")
    subprocess.run([cc, *flags, "-o", str(library), str(SOURCE)], check=True, capture_output=True, text=True)
    return library
