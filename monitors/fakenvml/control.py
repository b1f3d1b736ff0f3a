"""How are the values and faults of fake GPUs changed while programs look at them?

A folder holds the library, its `state` and its `events`; `fakenvml.c` says what their lines mean. Whoever runs with
`environment` sees these GPUs, through NVIDIA's own binding.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from monitors.fakenvml.build import LIBRARY, build

LOST, RESET_REQUIRED, UNKNOWN, MISMATCH, NO_PERMISSION = 15, 16, 999, 18, 4
"""codes of nvmlReturn_t"""
EVENTS = {
    "ecc_corrected": 0x1,
    "ecc_uncorrected": 0x2,
    "xid": 0x8,
    "ecc_storm": 0x200,
    "page_retired": 0x400,
    "page_retirement_failed": 0x800,
    "poison_contained": 0x1000,
    "poison": 0x2000,
    "unavailable": 0x4000,
    "recovery_action": 0x8000,
}
"""bits of nvmlEventType*"""
ALL: None = None
"""instead of a GPU's number"""


class FakeNvml:
    """Some GPUs, their state, and what goes wrong with them. Changes hold from the next call on."""

    def __init__(self, folder: Path, *, gpus: int = 8, library: Path | None = None) -> None:
        """Compile the library into the folder, or copy one that was compiled already."""
        self.folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if library is None:
            build(self.folder)
        else:
            shutil.copy2(library, self.folder / LIBRARY)
        self._lines: dict[str, str] = {}
        (self.folder / "events").touch()
        self.count(gpus)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see these GPUs."""
        others = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": f"{self.folder}:{others}" if others else str(self.folder)}

    def uuid(self, gpu: int) -> str:
        """As the library makes it up."""
        return f"GPU-fa4e0000-0000-4000-8000-{gpu:012d}"

    def pci(self, gpu: int) -> str:
        """As the library makes it up, in the kernel's form."""
        return f"0000:{0x1B + 0x10 * gpu:02x}:00.0"

    def set(self, gpu: int | None, key: str, value: float | str | None) -> None:
        """A value of one GPU or of all; None: not supported. Keys stand in DEFAULTS and FIELDS of `fakenvml.c`."""
        self._set(gpu, key, "none" if value is None else str(value))

    def unset(self, gpu: int | None, key: str) -> None:
        """What it would be of itself."""
        self._lines.pop(f"{_owner(gpu)}.{key}", None)
        self._write()

    def fail(self, gpu: int | None, code: int, call: str = "") -> None:
        """Answer with an error: every call, one call by name, or one value by key."""
        self._set(gpu, _of("error", call), str(code))

    def lose(self, gpu: int) -> None:
        """It fell off the bus: every call says so."""
        self.fail(gpu, LOST)

    def hang(self, gpu: int | None, call: str = "", *, spinning: bool = False) -> None:
        """Calls about it do not return; `spinning`: and use a whole CPU."""
        self._set(gpu, _of("spin" if spinning else "hang", call), "1")

    def delay(self, gpu: int | None, delay_s: float, call: str = "") -> None:
        """Calls about it take longer."""
        self._set(gpu, _of("delay_ms", call), str(round(delay_s * 1000)))

    def crash(self, gpu: int, call: str = "", *, number: int = signal.SIGSEGV) -> None:
        """The driver's library ends the process that asks."""
        self._set(gpu, _of("crash", call), str(int(number)))

    def heal(self, gpu: int | None = None) -> None:
        """Everything set for a GPU, or for all of them, is over."""
        owners = f"{_owner(gpu)}."
        self._lines = {
            key: value
            for key, value in self._lines.items()
            if key.startswith("sys.") or (gpu is not None and not key.startswith(owners))
        }
        self._write()

    def count(self, gpus: int) -> None:
        """How many GPUs there are."""
        self.system("count", gpus)

    def system(self, key: str, value: float | None) -> None:
        """A fault of the library: init_error, init_hang, wait_error, wait_hang; None: it is over."""
        self._lines.pop(f"sys.{key}", None)
        if value is not None:
            self._lines[f"sys.{key}"] = str(value)
        self._write()

    def vanish(self) -> None:
        """The library is not installed any more, for whoever loads it from now on."""
        (self.folder / LIBRARY).unlink()

    def limit_w(self, gpu: int) -> float | None:
        """The power limit that a program set last; None: none did."""
        path = self.folder / "limits"
        lines = path.read_text().split("\n") if path.exists() else []
        found = [float(mw) / 1000 for index, _, mw in (line.partition(" ") for line in lines) if index == str(gpu)]
        return found[-1] if found else None

    def xid(self, gpu: int, number: int) -> None:
        """The driver tells of a Xid."""
        self.event(gpu, "xid", number)

    def recover_by(self, gpu: int, action: int) -> None:
        """The driver's verdict changes: the field, and the event that says so."""
        self.set(gpu, "recovery_action", action)
        self.event(gpu, "recovery_action", action)

    def event(self, gpu: int, event: str, data: int = 0) -> None:
        """The driver tells whoever registered for it."""
        with (self.folder / "events").open("a") as file:
            file.write(f"{gpu} {EVENTS[event]:x} {data}\n")

    def _set(self, gpu: int | None, key: str, text: str) -> None:
        self._lines[f"{_owner(gpu)}.{key}"] = text
        self._write()

    def _write(self) -> None:
        # Replaced in one step: a reader sees the state before or after, never half of it.
        fresh = self.folder / "state.new"
        fresh.write_text("".join(f"{key}={value}\n" for key, value in self._lines.items()))
        os.replace(fresh, self.folder / "state")


def _owner(gpu: int | None) -> str:
    return "all" if gpu is None else f"gpu{gpu}"


def _of(fault: str, call: str) -> str:
    return f"{fault}.{call}" if call else fault
