"""Networks as an ordered partition of their parameters into named blocks.

:mod:`~medtl.networks.blocks` holds the protocol, :mod:`~medtl.networks.builder` assembles a network
from the stages that a plugin declares, and ``cpu`` holds kernels that are fast on processors. Data
and training are not known here.
"""
