"""The keeper of a node: a small process that owns the copies in memory, so that they outlive the node's agent."""
