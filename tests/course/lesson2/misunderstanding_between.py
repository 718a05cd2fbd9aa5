def final_check(ring, req_cons):
    ring.req_event = req_cons + 1
    return ring.req_prod != req_cons


def publish(ring, new):
    old = ring.req_prod
    ring.req_prod = new
    return (new - ring.req_event) % 256 < (new - old) % 256
