def backend_changed(front):
    theirs = front.otherend_state
    if theirs == 2 and front.state == 1:
        front.allocate(split=front.features().get("feature-split-event-channels") == "1")
        front.set_state(4)
        front.publish()
    elif theirs == 5:
        front.set_state(6)
    elif theirs == 6:
        front.release()
        front.set_state(6)
