"""What both drivers of a vif share: counters, notification, records of what a pass did."""
