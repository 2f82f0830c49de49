"""What a run scores and what it costs."""
