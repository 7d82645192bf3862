"""Weights of a file or a stage into a network, with a receipt for every tensor.

:mod:`~medtl.transfer.weights` reads and writes files, :mod:`~medtl.transfer.transfer` carries
tensors over, :mod:`~medtl.transfer.prepare` also freezes blocks, and ``strategies`` plan the stages
of a transfer as plain data.
"""
