"""How does a person read what a sense saw? One line for each signal."""

from __future__ import annotations

from datetime import datetime

from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, HostLooked, KernelSaw
from monitors.signals import Blind, Signal

GIB = 1 << 30


def sentence(signal: Signal) -> str:
    """The time of day here, and what was seen."""
    return f"{clock(signal.at)}  {words(signal)}"


def clock(at: float) -> str:
    """The time of day here, in seconds."""
    return datetime.fromtimestamp(at).strftime("%H:%M:%S")


def words(signal: Signal) -> str:
    """What was seen, on one line."""
    match signal:
        case KernelSaw(fault=fault, action=action, text=text):
            asks = "follows another fault" if signal.cascade else action.replace("_", " ")
            return f"kernel  {fault} ({asks}){_on(signal.device or signal.pci)}: {text}"
        case GpuEvent(event=event, data=data):
            return f"gpu     {event} {data}{_on(signal.device)}"
        case GpuFailed(index=index, error=error):
            return f"gpu     GPU {index}{_on(signal.device)}: {error}"
        case GpuLooked():
            return f"gpu     {gpu(signal)}"
        case HostLooked():
            return f"host    {host(signal)}"
        case Blind(sense=sense, why=why):
            return f"{sense:7} blind: {why}" if why else f"{sense:7} sees"
        case _:
            return f"{type(signal).__name__}: {signal}"


def _on(device: str | None) -> str:
    return "" if device is None else f" on {device}"


def gpu(seen: GpuLooked) -> str:
    """One GPU, compact; what the driver does not say is left out."""
    said = [
        f"{seen.power_w:.0f} W" if seen.power_w is not None else "",
        f"{seen.utilisation:.0%} busy" if seen.utilisation is not None else "",
        f"{seen.sm_clock_mhz:.0f} MHz" if seen.sm_clock_mhz is not None else "",
        f"{seen.temperature_c:.0f} °C" if seen.temperature_c is not None else "",
        f"{seen.memory_used_bytes / GIB:.1f} GiB used" if seen.memory_used_bytes is not None else "",
        f"recovery action {seen.recovery_action}" if seen.recovery_action else "",
    ]
    return f"GPU {seen.index}: {', '.join(filter(None, said)) or 'nothing known'}"


def host(seen: HostLooked) -> str:
    """The host, compact: what is wrong is named, what is right is a number."""
    total, left = seen.memory_bytes, seen.memory_available_bytes
    said = [
        f"{left / GIB:.1f} of {total / GIB:.1f} GiB memory left" if left is not None and total is not None else "",
        f"load {seen.load_per_cpu:.2f} a CPU" if seen.load_per_cpu is not None else "",
        *(f"{point} {free / GIB:.1f} GiB free" for point, _, free, _ in seen.disks),
        f"memory waits {seen.memory_stalled_share:.0%}" if seen.memory_stalled_share else "",
        f"steal {seen.cpu_steal:.0%}" if seen.cpu_steal and seen.cpu_steal >= 0.01 else "",
        f"clock {seen.clock_offset_s:+.3f} s" if seen.clock_offset_s and abs(seen.clock_offset_s) >= 0.01 else "",
        *(f"{mount} does not answer" for mount in seen.dead_mounts),
        *(f"{port} is down" for port in seen.links_down),
        *(f"{port} {counter} {rate:.3g}/s" for port, counter, rate in seen.link_errors),
        *(f"{name} ({pid}) is stuck" for pid, name in seen.blocked),
    ]
    return ", ".join(filter(None, said)) or "nothing known"


class Summary:
    """What is well, added up for a line a minute."""

    def __init__(self) -> None:
        self._host: HostLooked | None = None
        self._gpus: dict[str, GpuLooked] = {}

    def takes(self, signal: Signal) -> bool:
        """Keep the newest look at each thing; False for what is no look."""
        match signal:
            case HostLooked():
                self._host = signal
            case GpuLooked():
                self._gpus[signal.device] = signal
            case _:
                return False
        return True

    def sentence(self, now: float) -> str:
        """The time of day here, and how everything is."""
        parts = (fleet(list(self._gpus.values())), host(self._host) if self._host is not None else "")
        return f"{clock(now)}  {'; '.join(filter(None, parts)) or 'nothing is seen'}"


def fleet(gpus: list[GpuLooked]) -> str:
    """All GPUs of a node, compact; empty when there are none."""
    if not gpus:
        return ""
    watts = [gpu.power_w for gpu in gpus if gpu.power_w is not None]
    busy = [gpu.utilisation for gpu in gpus if gpu.utilisation is not None]
    hot = [gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None]
    said = [
        f"{sum(watts) / 1000:.1f} kW" if watts else "",
        f"{sum(busy) / len(busy):.0%} busy" if busy else "",
        f"{max(hot):.0f} °C at most" if hot else "",
    ]
    return f"{len(gpus)} GPUs: {', '.join(filter(None, said)) or 'nothing known'}"
