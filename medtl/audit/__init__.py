"""What is wrong with a data set before anyone trains on it: ``medtl audit``.

``inventory`` finds the cases, also where no task reads them. ``facts`` measures each file once.
``checks`` turn facts into findings, ``search`` finds pairs of images that are alike, and ``report``
presents what was found.
"""
