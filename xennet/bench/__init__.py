"""Benchmarks: frames per second through the emulated vif, as ratios to other ways in the same run."""
