from xennet.abi.netif import EXTRA_GSO, TX_REQUEST


def slots_of(pieces, gso_size, blank):
    slots, at = [], 0
    for number, (gref, _, size) in enumerate(pieces):
        flags = 4 if number < len(pieces) - 1 else 0
        said = size
        if number == 0:
            said = sum(piece[2] for piece in pieces)
            flags |= (3 if blank else 0) | (8 if gso_size else 0)
        slots.append(TX_REQUEST.pack(gref, at, flags, number, said))
        at += size
    if gso_size:
        slots.insert(1, EXTRA_GSO.pack(1, 0, gso_size, 1, 0, 0))
    return slots
