"""`medtl` that cannot write more than SIZE bytes into a file, as on a disk that is full.

    python tests/helpers/full_disk.py SIZE train brats ...

What it prints is kept until the end, as its streams may be files, too.
"""

from __future__ import annotations

import io
import resource
import sys
from contextlib import redirect_stderr

from medtl.cli.start import main

size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
told = io.StringIO()
try:
    with redirect_stderr(told):
        main()
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sys.stderr.write(told.getvalue())
