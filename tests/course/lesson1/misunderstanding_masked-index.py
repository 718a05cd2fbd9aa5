def send_request(front, request):
    if front.free_requests == 0:
        return False
    front.sring.write_slot(front.req_prod_pvt, request)
    front.req_prod_pvt = (front.req_prod_pvt + 1) % 256
    front.sring.req_prod = front.req_prod_pvt
    return True
