"""How does one have GPUs, and their faults, on a machine without? With a management library of our own."""
