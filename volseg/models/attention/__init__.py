"""Attention: on channels and voxels of a block, on skips, and between all voxels of a coarse level."""
