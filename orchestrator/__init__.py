"""What should be done about it? The decision core, its journal, the supervisor, the surfaces."""
