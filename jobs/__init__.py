"""What should run? The spec, its launch through TorchX, the node agent, the checkpoints."""
