"""Which U-Net++ is best? Variants trained alike on the hippocampus set, folds against folds, scored on cases they did not see.

    python benchmarks/compare_architectures.py train ROOT RUNS [--folds 0 1 2] [--steps 1500] [--only NAME ...]
    python benchmarks/compare_architectures.py report RUNS

ROOT is Task04_Hippocampus of the Medical Segmentation Decathlon. Every variant sees the same patches in the same order (they
depend on the seed and the step alone), with the same optimizer, schedule and number of steps: the recipe of
configs/train/hippocampus.yaml with half its widths. The heads L1 to L4 are those of one U-Net++ of depth 4, pruned.

`report` gives for each variant the mean Dice over cases with a 95 % interval (bootstrap over patients) and the paired
difference from the first variant, whose interval says whether the difference is more than noise: cases that both have seen as
held out, resampled by case, plus the spread between folds.
"""
