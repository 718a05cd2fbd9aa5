"""Links: what joins two ports."""
