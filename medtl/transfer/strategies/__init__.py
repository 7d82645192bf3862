"""Ways to transfer: functions that return stages as plain data, without torch.

Plugins import :mod:`~medtl.transfer.strategies.base`.
"""
