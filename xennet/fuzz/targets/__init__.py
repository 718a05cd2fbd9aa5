"""What is fuzzed: one file for each driver and ring."""
