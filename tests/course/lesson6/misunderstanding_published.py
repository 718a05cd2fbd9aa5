def take_packet(slots, count):
    first = slots[0].copy()
    taken, more = 1, first.flags & 8
    while more:
        if taken >= count:
            return "fatal"
        extra = slots[taken].copy()
        taken += 1
        if not 1 <= extra.extra_type <= 5:
            return "fatal"
        more = extra.extra_flags & 1
    parts = []
    flags = first.flags
    while flags & 4:
        if len(parts) >= 20:
            return "fatal"
        slot = slots[taken].copy()
        taken += 1
        if slot.offset + slot.size > 4096:
            return "fatal"
        parts.append((slot.gref, slot.offset, slot.size))
        flags = slot.flags
    left = first.size - sum(size for _, _, size in parts)
    if len(parts) > 18 or left < 14:
        return "ERROR"
    if first.offset + left > 4096:
        return "fatal"
    return [(first.gref, first.offset, left), *parts]
