"""How far two domains are apart: ``medtl shift``.

``images`` reads the domains, ``features`` turns images into rows, ``metrics`` measures distances
between rows, ``stats`` tests them by exchanging whole patients, and ``report`` says what the result
means. Plugins import :mod:`~medtl.shift.contract`.
"""
