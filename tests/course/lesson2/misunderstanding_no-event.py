def final_check(ring, req_cons):
    return ring.req_prod != req_cons


def publish(ring, new):
    old = ring.req_prod
    ring.req_prod = new
    return (new - ring.req_event) % 2**32 < (new - old) % 2**32
