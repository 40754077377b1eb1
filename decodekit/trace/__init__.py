"""What happened in a run, token by token: the recorder, the trace, and how samples descend from events."""
