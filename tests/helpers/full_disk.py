"""`medtl` that cannot write more than SIZE bytes into a file, as on a disk that is full.

python tests/helpers/full_disk.py SIZE train brats ...
"""

from __future__ import annotations

import resource
import sys

from medtl.cli.start import main

size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
main()
