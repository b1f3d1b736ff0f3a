"""How does one have GPUs, and their faults, on a machine that has none? With an NVIDIA management library of our own."""
