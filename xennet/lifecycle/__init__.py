"""The lives of a vif as named scenarios, each with a transcript; and why a vif passes no
traffic."""
