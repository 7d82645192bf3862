"""The shift between two domains: ``medtl shift``.

``images`` reads the domains, ``features`` turns images into rows, ``metrics`` measures distances
between rows, ``stats`` tests them by permuting whole patients, and ``report`` presents the result.
Plugins import :mod:`~medtl.shift.contract`.
"""
