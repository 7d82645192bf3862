"""Memory layouts and convolutions that are fast, and safe, on processors.

:func:`medtl.networks.cpu.channels_last.suited_to_cpu` is what other packages import.
"""
