"""Label maps of cases by a plain MONAI script with a network of medtl's: what users write.

    python monai_predict.py STAGE CASES OUT DEVICE

STAGE is the folder of a trained stage, CASES a folder of BraTS cases. The transforms are MONAI's
dictionary transforms: reading, orientation, spacing, cropping, normalisation; then its sliding
window in float32 with a network in evaluation mode, ``Invertd``, thresholds and ``SaveImaged``. Two
worker processes read ahead.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from monai.data import DataLoader, Dataset, decollate_batch
from monai.inferers import sliding_window_inference
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    SaveImaged,
    Spacingd,
)

from medtl.inference.load import restore_stage
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.transfer.weights import read_weights, resolve_weights


def main() -> None:
    stage, cases, out, device = sys.argv[1:]
    fabric = build_fabric(device, "fp32")
    trained = restore_stage(read_weights(resolve_weights(stage)), load_catalog(), fabric)
    module = trained.predictor.network.module.eval()
    preset = trained.predictor.preprocessor.preset
    modalities = trained.predictor.preprocessor.modalities
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=preset.spacing_mm, mode="bilinear"),
            CropForegroundd("image", source_key="image"),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )
    after = Compose(
        [
            Activationsd("pred", sigmoid=True),  # first, as what was cropped away comes back as 0
            Invertd("pred", transform=before, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", threshold=0.5),
            SaveImaged(
                "pred", output_dir=out, output_postfix="seg", separate_folder=False, print_log=False
            ),
        ]
    )
    folders = sorted(path for path in Path(cases).iterdir() if path.is_dir())
    items = [{"image": [str(image_of(folder, name)) for name in modalities]} for folder in folders]
    with torch.inference_mode():
        for batch in DataLoader(Dataset(items, before), batch_size=1, num_workers=2):
            image = batch["image"].to(fabric.device)
            batch["pred"] = sliding_window_inference(
                image, trained.predictor.patch_size, 4, module, overlap=0.5, mode="gaussian"
            ).cpu()
            for one in decollate_batch(batch):
                after(one)


def image_of(folder: Path, modality: str) -> Path:
    (path,) = folder.glob(f"*_{modality}.nii*")
    return path


if __name__ == "__main__":
    main()
