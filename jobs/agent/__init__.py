"""The agent of a node: what TorchX launches, and what owns the workers."""
