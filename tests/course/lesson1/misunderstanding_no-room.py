def send_request(front, request):
    front.sring.write_slot(front.req_prod_pvt, request)
    front.req_prod_pvt += 1
    front.sring.req_prod = front.req_prod_pvt
    return True
