"""The toolstack of a host, as xl and libxl are, with its hotplug script."""
