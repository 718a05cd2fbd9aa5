"""The lives of a vif as named scenarios, told line by line; and why a vif passes no traffic."""
