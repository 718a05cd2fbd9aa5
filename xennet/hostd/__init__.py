"""A host that stays up in real time, for programs and people of the same user.

What is in its directory (:mod:`~xennet.hostd.host_directory`): a lock, a socket for commands
(:mod:`~xennet.hostd.control_socket`), and for each domain a socket to the store. Commands
(:mod:`~xennet.hostd.commands`) act on a :class:`~xennet.hostd.live_host.LiveHost`, which is
``xl``'s view of xennet.host; :mod:`~xennet.hostd.serve` keeps it going.
"""
