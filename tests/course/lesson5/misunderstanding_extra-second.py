from xennet.abi.netif import EXTRA_GSO, TX_REQUEST


def slots_of(pieces, gso_size, blank):
    slots = []
    for number, (gref, offset, size) in enumerate(pieces):
        flags = 4 if number < len(pieces) - 1 else 0
        if number == 0:
            size = sum(piece[2] for piece in pieces)
            flags |= (3 if blank else 0) | (8 if gso_size else 0)
        slots.append(TX_REQUEST.pack(gref, offset, flags, number, size))
    if gso_size:
        slots.append(EXTRA_GSO.pack(1, 0, gso_size, 1, 0, 0))
    return slots
