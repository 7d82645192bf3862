"""Cases: the images of each patient, and how they are read.

Files (``io``), layouts of data sets (``formats``), medtl's own tasks (``tasks``), synthetic cohorts
(``phantom``), domains, splits by patient and duplicates. No network is known here. Import
:mod:`~medtl.data.case`, :mod:`~medtl.data.domain`, :mod:`~medtl.data.splits`,
:mod:`~medtl.data.task` and :mod:`~medtl.data.cohort` from outside.
"""
