"""How well do the senses judge labelled cases? `python -m tests.score FOLDER`."""
