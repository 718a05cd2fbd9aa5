def send_request(front, request):
    if front.free_requests == 0:
        return False
    number = front.req_prod_pvt
    front.req_prod_pvt += 1
    front.sring.req_prod = front.req_prod_pvt
    front.sring.write_slot(number, request)
    return True
