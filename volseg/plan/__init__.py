"""Training that configures itself: measure a collection once, then derive every setting by rules that can be read.

fingerprint.py measures, rules in spacing, intensities, topology, patch and recipe each decide one thing, memory.py says what
a network takes to train, planner.py puts the rules together and write.py writes the result for people to edit.
"""
