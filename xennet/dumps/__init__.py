"""What was taken from a real host, read without it: a page of a ring, the text of its XenStore."""
