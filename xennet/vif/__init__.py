"""What both drivers of a vif share: slots of rings, counters, notification, records of a pass."""
