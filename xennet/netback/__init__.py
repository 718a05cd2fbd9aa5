"""The backend end of a vif."""
