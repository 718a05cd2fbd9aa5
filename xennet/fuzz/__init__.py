"""The fuzzer: targets, inputs in a container, a corpus, findings that explain themselves."""
