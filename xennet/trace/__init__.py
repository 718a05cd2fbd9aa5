"""What happens on a machine, step by step: one stream of events that everything that shows a run
reads.

The records that a module of this name had before are in xennet.vif.ring_events.
"""

from xennet.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__, {})
