"""Rigid registration of two images of one patient in different contrasts.

Affines map voxels to mm (RAS).

Source: Mattes et al. 2003, by ITK's registration framework.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl.data.io.geometry import sheared_steps
from medtl.errors import DataError

FloatArray = NDArray[np.float64]
Image = NDArray[np.float32]

#: Voxels of both images are averaged until their edges have about this length.
EDGE_MM = 2.0

#: ITK's x and y run to the left and back.
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rigid(
    fixed: Image, fixed_affine: FloatArray, moving: Image, moving_affine: FloatArray
) -> FloatArray:
    """Where each place of the fixed image lies in the moving one (4 x 4, mm).

    Mutual information is maximised over rotation and shift at three resolutions, from the centres
    of mass on.

    Raises:
        DataError: a sheared grid, or images that do not overlap.
    """
    import itk

    if any(sheared_steps(affine) is not None for affine in (fixed_affine, moving_affine)):
        raise DataError("a sheared grid cannot be registered; register the images first")
    images = [
        _itk_image(*_coarser(fixed, fixed_affine)),
        _itk_image(*_coarser(moving, moving_affine)),
    ]
    transform = _start(images[0], images[1])
    method = _method(images[0], images[1], transform)
    try:
        method.Update()
    except RuntimeError as error:
        raise DataError("the images do not overlap enough to be registered") from error
    found = np.eye(4)
    found[:3, :3] = itk.array_from_matrix(transform.GetMatrix())
    found[:3, 3] = list(transform.GetOffset())
    return np.round(_TO_LPS @ found @ _TO_LPS, 6)  # threads add up in any order


def _start(fixed: Any, moving: Any) -> Any:
    """A rigid transform that lays the centres of mass on one another."""
    import itk

    transform, kind = itk.VersorRigid3DTransform[itk.D].New(), type(fixed)
    start = itk.CenteredTransformInitializer[type(transform), kind, kind].New(
        Transform=transform, FixedImage=fixed, MovingImage=moving
    )
    start.MomentsOn()
    start.InitializeTransform()
    return transform


def _method(fixed: Any, moving: Any, transform: Any) -> Any:
    """The registration, which changes ``transform``: mutual information at three resolutions."""
    import itk

    kind = type(fixed)
    metric = itk.MattesMutualInformationImageToImageMetricv4[kind, kind].New()
    metric.SetNumberOfHistogramBins(64)
    method = itk.ImageRegistrationMethodv4[kind, kind].New(
        FixedImage=fixed,
        MovingImage=moving,
        Metric=metric,
        Optimizer=_optimizer(metric),
        InitialTransform=transform,
    )
    method.SetNumberOfLevels(3)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    strategy = itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_REGULAR
    method.SetMetricSamplingStrategy(strategy)
    method.SetMetricSamplingPercentage(0.5)
    method.MetricSamplingReinitializeSeed(1)
    return method


def _optimizer(metric: Any) -> Any:
    import itk

    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New()
    optimizer.SetLearningRate(1.0)
    optimizer.SetMinimumStepLength(1e-3)
    optimizer.SetRelaxationFactor(0.6)
    optimizer.SetNumberOfIterations(200)
    optimizer.SetReturnBestParametersAndValue(True)
    scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New()
    scales.SetMetric(metric)
    optimizer.SetScalesEstimator(scales)
    return optimizer


def _coarser(image_IJK: Image, affine: FloatArray) -> tuple[Image, FloatArray]:
    """Blocks of voxels averaged, and the affine of the blocks."""
    from medtl.data.io.grids import block_mean

    edges = np.linalg.norm(affine[:3, :3], axis=0)
    factors = [max(1, int(EDGE_MM / edge + 0.5)) for edge in edges]
    factors = [min(f, n) for f, n in zip(factors, image_IJK.shape, strict=True)]
    way = np.eye(4)
    way[:3, :3] = np.diag(factors)
    way[:3, 3] = [(factor - 1) / 2 for factor in factors]
    return block_mean(image_IJK, factors), affine @ way


def _itk_image(image_IJK: Image, affine: FloatArray) -> Any:
    import itk

    lps = _TO_LPS @ affine
    edges = np.linalg.norm(lps[:3, :3], axis=0)
    image = itk.image_from_array(np.ascontiguousarray(image_IJK.transpose(2, 1, 0)))
    image.SetSpacing([float(edge) for edge in edges])
    image.SetOrigin([float(mm) for mm in lps[:3, 3]])
    image.SetDirection(itk.matrix_from_array(lps[:3, :3] / edges))
    return image
