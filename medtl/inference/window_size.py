"""The size of sliding windows, which is reduced when the memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from medtl.errors import RunError
from medtl.networks.blocks import per_axis
from medtl.runtime.memory import give_back_freed_memory, out_of_memory

Result = TypeVar("Result")


#: Least edge of a halved window; it also has at least two voxels of the coarsest level.
LEAST_EDGE = 16


@dataclass(frozen=True, slots=True)
class WindowSize:
    """Windows of ``roi`` voxels, ``batch_size`` at once; ``whole``: small volumes in one pass."""

    roi: tuple[int, ...]
    batch_size: int
    whole: bool

    def halved(self, multiple: int | Sequence[int], fixed: bool) -> WindowSize | None:
        """The next smaller size; None if there is none.

        First fewer windows at once, then windows instead of whole volumes, then the longest edge
        of the windows is halved.

        Args:
            multiple: edges of windows are multiples of this, one number or one per axis.
            fixed: the network only takes windows of this size.
        """
        if self.batch_size > 1:
            return replace(self, batch_size=self.batch_size // 2)
        if self.whole:
            return replace(self, whole=False)
        longest = max(range(len(self.roi)), key=lambda axis: self.roi[axis])
        step = per_axis(multiple, len(self.roi))[longest]
        edge = step * -(-self.roi[longest] // (2 * step))
        if fixed or edge == self.roi[longest] or edge < max(LEAST_EDGE, 2 * step):
            return None
        return replace(self, roi=(*self.roi[:longest], edge, *self.roi[longest + 1 :]))

    def __str__(self) -> str:
        if self.whole:
            return f"{self.batch_size} at once"
        several = f", {self.batch_size} at once" if self.batch_size > 1 else ""
        return f"windows of {'x'.join(map(str, self.roi))} voxels{several}"


Tell = Callable[[str], None]


@dataclass(slots=True)
class Shrinking:
    """The largest window size that fits the memory; a reduced size is kept for all later cases."""

    tell: Tell = lambda text: None
    cut: WindowSize | None = None

    def run(
        self,
        compute: Callable[[WindowSize], Result],
        wanted: WindowSize,
        multiple: int | Sequence[int],
        *,
        fixed: bool,
    ) -> Result:
        """``compute`` with ``wanted``, or with the largest smaller size that fits.

        Raises:
            RunError: no size fits.
        """
        known = self.cut
        while True:
            cut = self.cut or wanted
            try:
                computed = compute(cut)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # Out here the traceback, which holds the tensors, is gone.
            give_back_freed_memory()
            self.cut = cut.halved(multiple, fixed)
            if self.cut is None:
                only = ", and the network takes no other size" if fixed else ""
                raise RunError(
                    f"the memory does not hold {replace(cut, whole=False)}{only}; "
                    "free some, or take another --device"
                )
        if self.cut != known:
            self.tell(f"the memory ran out: {self.cut} from here on")
        return computed
