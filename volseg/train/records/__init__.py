"""What a training writes while it runs: the log, its curves, and trackers of other makers."""
