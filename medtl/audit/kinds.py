"""The kinds of findings: how bad each is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"

SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Kind:
    """``severity``: an error makes a score wrong or a training fail, a warning asks for a look."""

    name: str
    severity: str
    title: str
    advice: str


_KINDS = (
    # files
    Kind("layout", WARNING, "no task reads the folder", "mend what the line says, or name a task"),
    Kind("unreadable", ERROR, "files that cannot be read", "fetch them again or leave them out"),
    Kind("truncated", ERROR, "files that end too early", "fetch them again"),
    Kind("missing-image", WARNING, "cases that lack an image", "add it or drop the case"),
    Kind("missing-label", NOTE, "cases without labels", "they cannot be trained on or scored"),
    # leaks
    Kind("leak", ERROR, "the same image on both sides", "keep it on one side only"),
    Kind("patient-on-both-sides", ERROR, "a patient on both sides", "split by patient"),
    Kind("exact-duplicate", WARNING, "identical images", "keep one, or split by --groups"),
    Kind("near-duplicate", WARNING, "nearly identical images", "keep one, or split by --groups"),
    Kind("label-conflict", ERROR, "one image with two labels", "decide which one is right"),
    Kind("two-names", ERROR, "one image under two patients", "give both the same patient"),
    Kind("neighbouring-slices", NOTE, "neighbouring slices, nearly equal", "split by patient"),
    Kind("trained-on", ERROR, "images that the model was trained on", "do not test on them"),
    # geometry
    Kind("sform-qform", WARNING, "sform and qform disagree", "repair the header"),
    Kind("spacing", WARNING, "implausible voxel sizes", "look up the true ones, repair the header"),
    Kind("lost-geometry", WARNING, "headers that place nothing", "convert from the source again"),
    Kind("units", WARNING, "lengths in another unit than mm", "write the header in mm"),
    Kind("odd-orientation", NOTE, "stored in another orientation than the rest", "medtl turns it"),
    Kind("odd-grid", WARNING, "another spacing than the rest", "check that it was meant"),
    Kind("mixed-grids", ERROR, "images of a case on different grids", "register or resample them"),
    Kind(
        "label-grid",
        ERROR,
        "labels on another grid than their image",
        "see which header is right, then resample",
    ),
    Kind("doubled-slices", WARNING, "slices that repeat their neighbour", "convert the case again"),
    Kind("slice-gap", WARNING, "a jump between neighbouring slices", "look for missing slices"),
    Kind("identical-channels", WARNING, "two contrasts are one image", "find the true one"),
    Kind("swapped-channels", WARNING, "a contrast looks like another one", "check the file names"),
    # headers of DICOM
    Kind("set-aside", NOTE, "series that are no volumes", "expected?"),
    Kind("gap-between-slices", NOTE, "gaps between slices", "resample with care"),
    Kind("oblique", NOTE, "grids turned against the body's axes", "medtl keeps the angle"),
    Kind("rescaled", NOTE, "series with scales of their own", "read values, not stored numbers"),
    Kind("cropped-series", WARNING, "a series of another size than the others", "leave it out"),
    # images
    Kind("constant", ERROR, "images of one value", "leave out the case"),
    Kind("not-finite", ERROR, "voxels that are NaN or infinite", "set them to the background"),
    Kind("saturated", WARNING, "intensities cut off at the top", "export the images again"),
    Kind("blank-slices", WARNING, "slices without content", "crop them or fetch the case again"),
    Kind("extrapolated-border", WARNING, "borders that repeat a slice", "crop them"),
    Kind("intensity-scale", WARNING, "another intensity scale", "normalise each image"),
    Kind("skull", WARNING, "with or without skull, unlike the rest", "strip all or none"),
    Kind("background", NOTE, "a background other than 0", "medtl finds it; other tools may not"),
    Kind("burnt-in-text", WARNING, "text in the image", "black it out: it may name the patient"),
    Kind("outlier", WARNING, "texture and contrast unlike all others", "look at it"),
    # labels
    Kind("label-values", ERROR, "label values that the others do not have", "check the labels"),
    Kind("fractional-label", ERROR, "labels that are no whole numbers", "resample by nearest"),
    Kind("empty-label", NOTE, "label maps without any label", "check that it was meant"),
    Kind("missing-structure", NOTE, "cases without a structure that others have", "expected?"),
    Kind("specks", WARNING, "specks of a few voxels", "remove them or look"),
    Kind("holes", WARNING, "holes in a structure", "fill them or look"),
    Kind("disconnected", NOTE, "a structure in two large parts, unlike the rest", "look at it"),
    Kind("label-outside", WARNING, "labels outside of what the image shows", "look at the case"),
    Kind("label-shifted", ERROR, "labels that fit when they are moved", "move them back"),
    Kind("label-mirrored", ERROR, "labels that fit when they are mirrored", "mirror them back"),
    Kind("label-swapped", ERROR, "two labels in each other's place", "exchange their values"),
    Kind("label-copied", ERROR, "two cases with one label map", "find the true one"),
    Kind("label-place", WARNING, "a structure where no other case has it", "look at the case"),
    Kind("mislabelled", WARNING, "cases whose class may be wrong", "look at them"),
    # shortcuts
    Kind("size-shortcut", WARNING, "size and header predict the class", "resize all alike"),
    Kind("name-shortcut", WARNING, "file names predict the class", "give no model the names"),
    Kind("border-shortcut", WARNING, "border or text predicts the class", "crop to the head"),
    Kind("thumbnail-shortcut", NOTE, "the nearest thumbnail predicts the class", "a score to beat"),
    Kind("site-shortcut", NOTE, "images tell the site", "test on other sites"),
)

#: Every kind by its name, in the order of a table.
KINDS = {kind.name: kind for kind in _KINDS}
