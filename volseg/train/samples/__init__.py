"""From labelled cases to batches: a cache on disk, patches drawn from it, and random changes to them."""
