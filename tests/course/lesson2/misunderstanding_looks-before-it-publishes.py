def final_check(ring, req_cons):
    ring.req_event = req_cons + 1
    return ring.req_prod != req_cons


def publish(ring, new):
    old = ring.req_prod
    notify = (new - ring.req_event) % 2**32 < (new - old) % 2**32
    ring.req_prod = new
    return notify
