def send_request(front, request):
    if front.free_requests == 0:
        return False
    front.req_prod_pvt += 1
    front.sring.write_slot(front.req_prod_pvt, request)
    front.sring.req_prod = front.req_prod_pvt
    return True
