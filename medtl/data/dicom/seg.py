"""Masks as a DICOM segmentation (SEG) that lies on the series they were predicted from.

Axes: L segment, I J K voxels of a :class:`~medtl.data.dicom.stacks.Stack`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from medtl import __version__
from medtl.data.dicom.frames import reading
from medtl.data.dicom.stacks import Stack
from medtl.errors import DataError
from medtl.runtime.files import replacing

#: Who makes the files, and the name of its own codes.
_MAKER, _SCHEME = "medtl", "99MEDTL"

#: Regions by the names of data sets -> pydicom's keyword of the SNOMED CT concept.
_KEYWORDS = {
    **dict.fromkeys(("wt", "whole tumor", "whole tumour", "tumor", "tumour"), "Neoplasm"),
    **dict.fromkeys(("tc", "tumor core", "tumour core", "core"), "Neoplasm"),
    **dict.fromkeys(("et", "enhancing", "enhancing tumor", "enhancing tumour"), "Neoplasm"),
    **dict.fromkeys(("ed", "edema", "oedema", "peritumoral edema"), "Edema"),
    **dict.fromkeys(("ncr", "necrosis", "necrotic core"), "Necrosis"),
}

#: What a SEG repeats of its source, and may leave empty; it could name the patient.
_EMPTIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("ReferringPhysicianName", "StudyID", "StudyDate", "StudyTime", "PositionReferenceIndicator"),
)

#: What is taken over of a source: where its pixels lie, and what refers to it.
_TAKEN = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("FrameOfReferenceUID", "Rows", "Columns", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices"),
    *("NumberOfFrames", "DimensionOrganizationSequence", "DimensionIndexSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ImageType"),
)


def region_code(region: str) -> tuple[Code, Code]:
    """Category and type of a region: SNOMED CT where its name is known, else medtl's own code."""
    name = re.sub(r"[_\-]+", " ", region.strip().lower())
    keyword = _KEYWORDS.get(name) or "".join(word.capitalize() for word in name.split())
    if keyword in codes.cid7151.dir():  # what segmentations show
        abnormal = keyword in codes.cid7159.dir()  # lesions
        category = "MorphologicallyAbnormalStructure" if abnormal else "AnatomicalStructure"
        return getattr(codes.SCT, category), getattr(codes.SCT, keyword)
    value = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    return codes.SCT.Tissue, Code(value, _SCHEME, region[:64])


def write_seg(
    path: Path,
    label_IJK: NDArray[Any],
    values_of: Mapping[str, Sequence[int]],
    stack: Stack,
    model: str,
) -> bool:
    """Write the regions that are not empty; returns False, and writes nothing, if all are.

    Beside the references that the standard requires (to the study, the frame of reference and the
    images) nothing is taken over that could name the patient.

    Args:
        values_of: region -> the label values that stand for it.
        model: what predicted the masks.

    Raises:
        DataError: the label map has another grid than the series, the header of the series allows
            none, or its frames lie in several files.
        RunError: the path cannot be written.
    """
    if label_IJK.shape != stack.shape:
        raise DataError("its label map does not lie on the grid of the series")
    held = set().union(*(np.unique(slice_IJ).tolist() for slice_IJ in label_IJK.T))
    shown = {name: tuple(held & {*values}) for name, values in values_of.items()}
    shown = {name: values for name, values in shown.items() if values}
    if not shown:
        return False
    segments = _segments(label_IJK[..., _order(stack)].T, list(shown.values()))
    try:
        seg = _segmentation(segments, list(shown), stack, model)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise DataError(f"its header does not allow a SEG ({reason})") from error
    with replacing(path) as temporary:
        seg.save_as(temporary)
    return True


def _segments(label_KJI: NDArray[Any], values: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """The number of each voxel's segment (KJI), or a mask of each (KJIL) where some overlap.

    Args:
        values: of each segment.
    """
    every = [value for own in values for value in own]
    if len(set(every)) == len(every) and len(values) < 256:
        number_of = np.zeros(int(label_KJI.max()) + 1, np.uint8)
        for number, own in enumerate(values, start=1):
            number_of[list(own)] = number
        found: NDArray[np.uint8] = number_of[label_KJI]
        return found
    return np.stack([np.isin(label_KJI, own) for own in values], axis=-1).astype(np.uint8)


def _order(stack: Stack) -> list[int]:
    """The slices in the order that highdicom expects: that of the file where one file holds
    several frames, else that of the stack."""
    frames = stack.frames
    if frames[0].index is None:
        return list(range(len(frames)))
    if len({frame.file for frame in frames}) > 1:
        raise DataError("its slices are frames of several files; no SEG can be written of these")
    order = sorted(range(len(frames)), key=lambda n: frames[n].index or 0)
    if [frames[n].index for n in order] != list(range(frames[0].of)):
        raise DataError("its file holds other frames as well, so no SEG is written")
    return order


def _segmentation(
    segments: NDArray[np.uint8], regions: Sequence[str], stack: Stack, model: str
) -> Any:
    from highdicom.seg import Segmentation, SegmentationTypeValues

    return Segmentation(
        source_images=_sources(stack),
        pixel_array=segments,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, region, model) for number, region in enumerate(regions, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=1000,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description="Automatic segmentation",
        series_description="medtl segmentation",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
    )


def _sources(stack: Stack) -> list[Dataset]:
    """The headers of the slices, in the order of the stack, without the patient's fields."""
    held: dict[Any, Dataset] = {}
    for frame in stack.frames:
        if frame.file not in held:
            with reading(frame.file), frame.file.opened() as stream:
                header = pydicom.dcmread(
                    stream, stop_before_pixels=True, force=True, specific_tags=list(_TAKEN)
                )
            header.file_meta.setdefault("TransferSyntaxUID", UID(ExplicitVRLittleEndian))
            for name in _EMPTIED:
                setattr(header, name, None)
            if "SliceThickness" not in header and frame.index is None:
                header.SliceThickness = stack.spacing_mm[2]
            held[frame.file] = header
    return list(held.values())


def _description(number: int, region: str, model: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription

    category, kind = region_code(region)
    return SegmentDescription(
        segment_number=number,
        segment_label=region[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model[:64], version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
        tracking_uid=generate_uid(),
        tracking_id=region[:64],
    )
