def final_check(ring, req_cons):
    ring.req_event = (req_cons + 1) % 2**32
    return ring.req_prod > ring.req_event


def publish(ring, new):
    old = ring.req_prod
    ring.req_prod = new
    return (new - ring.req_event) % 2**32 < (new - old) % 2**32
