from xennet.engine.kernel import compare_and_swap


def grant(words, gref, domid, frame, readonly):
    words[2 * gref + 1] = frame
    words[2 * gref] = (5 if readonly else 1) | domid


def end(words, gref):
    seen = words[2 * gref]
    return not seen & 24 and compare_and_swap(words, 2 * gref, seen, 0) == seen
