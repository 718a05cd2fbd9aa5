"""Test vectors: what a backend and a frontend make of one ring page, for any language.

They are the part of the suite that needs no machine and no peer: raw pages, and beside them in JSON
what is to come out. :mod:`~xennet.check.vectors.write` has their form.
"""
