"""Studies in which every site is the target in turn: ``medtl compare --leave-site-out``."""
