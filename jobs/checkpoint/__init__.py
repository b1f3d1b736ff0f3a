"""What may be done with checkpoints without torch? List, verify, delete, damage on purpose."""
