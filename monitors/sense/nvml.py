"""Which GPUs does NVIDIA's management library see? The one place that loads it."""

from __future__ import annotations


def inventory() -> tuple[tuple[str, ...], str]:
    """Model names of this host's GPUs, and why they cannot be seen: empty when they can."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), f"NVML: {error}"
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles), ""
    except pynvml.NVMLError as error:
        return (), f"NVML: {error}"
    finally:
        pynvml.nvmlShutdown()
