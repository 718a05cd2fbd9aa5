"""Benchmarks: frames per second through the vif, as ratios to other ways in the same run."""
