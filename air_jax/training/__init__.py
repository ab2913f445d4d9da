"""Training: the story of a run, its steps, loop, data feed, optimizer, scoring and figures."""
