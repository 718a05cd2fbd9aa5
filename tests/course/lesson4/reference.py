def backend_changed(front):
    theirs = front.otherend_state
    if theirs == 2 and front.state == 1:
        front.allocate(split=front.features().get("feature-split-event-channels") == "1")
        front.publish()
        front.set_state(4)
    elif theirs == 5:
        front.set_state(6)
    elif theirs == 6:
        front.release()
        front.set_state(6)
