"""A vif, one delivery at a time, each chosen by who looks on."""
