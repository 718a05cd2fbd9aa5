"""The frontend end of a vif."""
