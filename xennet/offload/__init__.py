"""Blank checksums and GSO done in software: kernels over frames, no drivers, no ports.

* :mod:`~xennet.offload.headers` finds the layers of a frame;
* :mod:`~xennet.offload.checksum` sums, completes and blanks TCP and UDP checksums;
* :mod:`~xennet.offload.segment` cuts a TCP frame into segments;
* :mod:`~xennet.offload.refit` makes the frames of a batch fit their receiver;
* :mod:`~xennet.offload.fitter` holds the memory of one direction and calls those kernels;
* :mod:`~xennet.offload.captured` completes what an offload was to fill in after a capture.
"""
