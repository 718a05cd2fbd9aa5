def grant(words, gref, domid, frame, readonly):
    words[2 * gref + 1] = frame
    words[2 * gref] = 1 | (4 if readonly else 0) | domid << 16


def end(words, gref):
    if words[2 * gref] & 24:
        return False
    words[2 * gref] = 0
    return True
