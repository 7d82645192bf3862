"""Features of a study's networks: how alike they are, and how well sources suit the target.

Axes: C modality, F feature, N row, I J K voxels or cells.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image

from medtl import api
from medtl.data.case import Case
from medtl.data.phantom import write_phantom
from medtl.errors import RunError
from medtl.inference.classification import Classifier
from medtl.inference.load import LoadedStage, read_stage
from medtl.inference.temperature import Temperature
from medtl.plugins.catalog import Catalog, load_catalog
from medtl.runtime.console import Recorder
from medtl.runtime.device import build_fabric
from medtl.runtime.run_folder import Run
from medtl.study.features.block_rows import draw
from medtl.study.features.representation_figure import similarity_figure
from medtl.study.features.representation_results import Similarity
from medtl.study.features.trained_runs import ended_runs, open_cases, with_random_weights
from medtl.study.folder import StudyFolder
from medtl.study.representation import measure_similarity
from medtl.study.transfer_scores import measure_transferability
from medtl.study.transferability.dense import dense_score
from medtl.study.transferability.hscore import regularised_h_score
from medtl.study.transferability.leep import leep, nce
from medtl.study.transferability.logme import logme
from medtl.transfer.weights import BEST

EDGE = 32

STUDY: dict[str, Any] = {
    "task": "brats",
    "strategies": ["linear-probe"],
    "networks": ["unet"],
    "seeds": 2,
    "skip": ["joint", "zero-shot", "control-b"],
    "width": 4,
    "batch_size": 2,
    "spacing_mm": 4.5,
    "steps": 2,
    "device": "cpu",
    "precision": "fp32",
    "patch_size": (EDGE, EDGE, EDGE),
    "transforms": "brain-mr-plain",
    "test_fraction": 0.4,
    "src": "mod:t1+t2,site:S1",
    "dst": "mod:t1+t2,site:S2",
}

#: Modules of the network whose outputs are those of blocks.
MODULES = {
    "encoder2": "model.1.submodule.1.submodule.0",
    "decoder1": "model.1.submodule.1.submodule.1.submodule.2",
    "decoder3": "model.1.submodule.2",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    root = tmp_path_factory.mktemp("similarity")
    data = write_phantom(root / "data", workers=1, cases=14, size=24, sites=2, seed=3)
    study = api.compare(**STUDY, data=data, out=root / "study")
    assert not study.failed
    return StudyFolder(study.folder)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return build_fabric("cpu", "fp32")


def measured(folder: StudyFolder, catalog: Catalog, fabric: Fabric) -> Similarity:
    return measure_similarity(folder, catalog, fabric, Recorder(silent=True))


@pytest.fixture(scope="module")
def similarity(folder: StudyFolder, catalog: Catalog, fabric: Fabric) -> Similarity:
    return measured(folder, catalog, fabric)


def copy_of(folder: StudyFolder, path: Path) -> StudyFolder:
    shutil.copytree(folder.path, path)
    return StudyFolder(path)


def stage_of(folder: StudyFolder, run: str, catalog: Catalog, fabric: Fabric) -> LoadedStage:
    name = json.loads((folder.run(run) / "stages.json").read_text())[-1]
    return read_stage(Run(folder.run(run)), name, catalog, fabric)


def cases_of(folder: StudyFolder, catalog: Catalog, part: str) -> list[Case]:
    """Those of the target in a part of the split."""
    split = json.loads(folder.split(0).read_text())[0]
    cohort = open_cases(folder, ended_runs(folder), catalog, Recorder(silent=True))
    own = [case for case in cohort.cases if case.id in split[part] and case.site == "S2"]
    return sorted(own, key=lambda case: case.id)


def cut(array_CIJK: torch.Tensor, centre: list[int]) -> torch.Tensor:
    """A window of EDGE voxels around a voxel: within the image, or with the image in its middle."""
    for axis, middle in enumerate(centre, 1):
        size = array_CIJK.shape[axis]
        places = np.arange(EDGE) - (EDGE - size + 1) // 2
        if size > EDGE:
            places = np.arange(EDGE) + np.clip(middle - EDGE // 2, 0, size - EDGE)
        inside = torch.from_numpy((places >= 0) & (places < size))
        taken = array_CIJK.index_select(axis, torch.from_numpy(places.clip(0, size - 1)))
        shape = [EDGE if n == axis else 1 for n in range(array_CIJK.ndim)]
        array_CIJK = taken * inside.view(shape).to(taken)
    return array_CIJK


def hooked(trained: LoadedStage, window_CIJK: torch.Tensor, block: str) -> torch.Tensor:
    """The output of a block (F, I, J, K), by a hook on its module."""
    module = trained.predictor.network.module.eval()
    seen: list[torch.Tensor] = []
    part = dict(module.named_modules())[MODULES[block]]
    handle = part.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    with torch.no_grad():
        module(window_CIJK[None])
    handle.remove()
    return seen[0]


def at_centres(array_IJK: torch.Tensor, cells: int) -> np.ndarray:
    """The voxel in the middle of each cell of a map with so many cells along each axis."""
    places = [int((n + 0.5) * EDGE / cells) for n in range(cells)]
    return array_IJK[np.ix_(places, places, places)].numpy().ravel()


def hsic_1(x_NF: np.ndarray, y_NG: np.ndarray) -> float:
    """Song et al. 2012, with kernel matrices of zeroed diagonals."""
    k_NN, l_NN = x_NF @ x_NF.T, y_NG @ y_NG.T
    np.fill_diagonal(k_NN, 0)
    np.fill_diagonal(l_NN, 0)
    n, one_N = len(k_NN), np.ones(len(k_NN))
    cross = (one_N @ k_NN @ one_N) * (one_N @ l_NN @ one_N) / ((n - 1) * (n - 2))
    total = np.trace(k_NN @ l_NN) + cross - 2 / (n - 2) * one_N @ k_NN @ l_NN @ one_N
    return float(total / (n * (n - 3)))


def dense_cka(one: LoadedStage, other: LoadedStage, cases: list[Case], block: str) -> float:
    """Over all cells in the image, which are few enough to be taken all."""
    sums = np.zeros(3)
    for case in cases:
        image_CIJK = one.predictor.preprocessor(case, with_target=False)["image"]
        window_CIJK = cut(image_CIJK, [size // 2 for size in image_CIJK.shape[1:]])
        maps = [hooked(stage, window_CIJK, block).double() for stage in (one, other)]
        inside = at_centres((window_CIJK != 0).any(0), maps[0].shape[-1])
        x_NF, y_NG = (own.flatten(1).T.numpy()[inside] for own in maps)
        assert 4 <= len(x_NF) <= 128
        pairs = ((x_NF, y_NG), (x_NF, x_NF), (y_NG, y_NG))
        sums += [len(x_NF) * hsic_1(*pair) for pair in pairs]
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def value(similarity: Similarity, arm: str, against: str, block: str, seed: int = 0) -> float:
    (row,) = (
        row
        for row in similarity.rows()
        if (row["arm"], row["against"], row["block"], row["seed"]) == (arm, against, block, seed)
    )
    return float(row["cka"])


def test_frozen_blocks_are_those_of_the_source(similarity: Similarity) -> None:
    for seed in (0, 1):
        for block in similarity.blocks("unet")[:-1]:
            start = value(similarity, "linear-probe", "start", block, seed)
            assert start == pytest.approx(1, abs=1e-6)
        assert value(similarity, "linear-probe", "start", "head", seed) < 0.9999


@pytest.mark.parametrize("block", ["encoder2", "decoder1"])
def test_cka_is_that_of_activations_taken_by_a_hook(
    similarity: Similarity, folder: StudyFolder, catalog: Catalog, fabric: Fabric, block: str
) -> None:
    cases = cases_of(folder, catalog, "test")
    assert similarity.images == len(cases)
    probe, control, again = (
        stage_of(folder, f"{name}-nall-f0-s{seed}", catalog, fabric)
        for name, seed in (("linear-probe", 0), ("control-a", 0), ("control-a", 1))
    )
    start = with_random_weights(control, catalog, fabric, 0)
    for arm, against, one, other in (
        ("linear-probe", "control-a", probe, control),
        ("control-a", "other seed", control, again),
        ("control-a", "start", control, start),
    ):
        expected = dense_cka(one, other, cases, block)
        assert value(similarity, arm, against, block) == pytest.approx(expected, abs=1e-4)


def test_random_weights_are_those_that_the_run_started_from(
    folder: StudyFolder, catalog: Catalog, fabric: Fabric
) -> None:
    """Two steps change them little; those of another seed are unrelated."""
    trained = stage_of(folder, "control-a-nall-f0-s1", catalog, fabric)
    state = trained.predictor.network.module.state_dict()
    name = "model.1.submodule.1.submodule.0.conv.unit0.conv.weight"
    same, other = (
        with_random_weights(trained, catalog, fabric, seed).predictor.network.module.state_dict()
        for seed in (1, 0)
    )
    near, far = ((state[name] - start[name]).norm() for start in (same, other))
    assert near < 0.2 * far


def test_labels_of_test_cases_change_nothing(
    similarity: Similarity, folder: StudyFolder, catalog: Catalog, fabric: Fabric, tmp_path: Path
) -> None:
    data = folder.path.parent / "data"
    shutil.copytree(data, tmp_path / "data")
    copy = copy_of(folder, tmp_path / "study")
    settings = (copy.path / "study.yaml").read_text()
    assert str(data) in settings
    (copy.path / "study.yaml").write_text(settings.replace(str(data), str(tmp_path / "data")))
    changed = 0
    for case in cases_of(copy, catalog, "test"):
        assert case.target is not None
        stored = nib.load(case.target.path)
        nib.save(nib.Nifti1Image(np.zeros(stored.shape, np.uint8), stored.affine), case.target.path)
        changed += 1
    assert changed == similarity.images
    assert measured(copy, catalog, fabric).rows() == similarity.rows()
    before, after = (
        measure_transferability(each, catalog, fabric, Recorder(silent=True)).rows()
        for each in (folder, copy)
    )
    assert before == after


def test_transferability_is_that_of_features_taken_by_a_hook(
    folder: StudyFolder, catalog: Catalog, fabric: Fabric
) -> None:
    found = measure_transferability(folder, catalog, fabric, Recorder(silent=True))
    source = stage_of(folder, "source-f0-s0", catalog, fabric)
    features, labels, patients = [], [], []
    for case in cases_of(folder, catalog, "train"):
        prepared = source.predictor.preprocessor(case)
        target_LIJK = prepared["target"]
        centre = target_LIJK.any(0).nonzero().float().mean(0).round().int().tolist()
        window_CIJK = cut(prepared["image"], centre)
        map_FIJK = hooked(source, window_CIJK, "decoder3")
        shown, whole = (
            at_centres(mask_IJK, map_FIJK.shape[-1])
            for mask_IJK in ((window_CIJK != 0).any(0), cut(target_LIJK[:1], centre)[0] > 0)
        )
        cells = [
            draw(np.flatnonzero((shown | whole) & side), f"{case.id}/WT/{name}", 200)
            for name, side in (("inside", whole), ("outside", ~whole))
        ]
        own = np.concatenate(cells)
        features.append(map_FIJK.flatten(1).T.numpy()[own])
        labels.append(whole[own])
        patients += [case.patient] * len(own)
    examples = np.concatenate(features), np.concatenate(labels), patients
    for name, score in (("LogME", logme), ("H-score", regularised_h_score)):
        expected = dense_score(score, *examples).mean
        (row,) = (r for r in found.rows() if (r["output"], r["score"]) == ("WT", name))
        assert row["value"] == pytest.approx(expected.mean, rel=1e-4)
        assert row["patients"] == expected.n > 1
    assert any("1 candidate(s): a rank needs 3" in note for note in found.notes)


def test_a_damaged_run_is_told_in_a_line_and_left_out(
    similarity: Similarity, folder: StudyFolder, catalog: Catalog, fabric: Fabric, tmp_path: Path
) -> None:
    copy = copy_of(folder, tmp_path / "study")
    (copy.run("control-a-nall-f0-s0") / "scratch" / BEST).write_bytes(b"no weights")
    (copy.path / "state" / "linear-probe-nall-f0-s1.json").unlink()
    reporter = Recorder(silent=True)
    found = measure_similarity(copy, catalog, fabric, reporter)
    (line,) = reporter.warnings
    assert line.startswith("control-a-nall-f0-s0 is left out: ")
    assert "\n" not in line
    assert line in found.notes
    lost = ("control-a-nall-f0-s0", "linear-probe-nall-f0-s1")
    kept = [
        each.to_json()
        for each in similarity.found
        if not {each.pair.one.run, each.pair.other.run} & set(lost)
    ]
    assert kept
    assert found.rows() == kept


def test_a_study_without_a_finished_arm_is_refused(
    folder: StudyFolder, catalog: Catalog, fabric: Fabric, tmp_path: Path
) -> None:
    copy = copy_of(folder, tmp_path / "study")
    shutil.rmtree(copy.path / "state")
    with pytest.raises(RunError, match="no run of an arm has ended"):
        measured(copy, catalog, fabric)


def test_tables_and_figure_have_every_block_and_arm(similarity: Similarity, tmp_path: Path) -> None:
    (table,) = similarity.tables()
    assert table.columns[3:] == tuple(similarity.blocks("unet"))
    assert {row[1] for row in table.rows} == {"source", "control-a", "linear-probe"}
    assert "synthetic phantom" in table.title
    figure = similarity_figure(tmp_path / "similarity.png", similarity)
    assert (tmp_path / "similarity.png").stat().st_size > 0
    assert len(figure.axes) == 3
    one = replace(similarity, found=tuple(f for f in similarity.found if f.pair.seed == 0))
    assert one.tables()[0].rows != table.rows  # they are means over seeds


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study of pictures, bright on the left or on the right."""
    root, random = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for name, side in (("left", slice(0, 16)), ("right", slice(16, 32))):
        (root / "data" / name).mkdir(parents=True)
        for number in range(10):
            picture_IJ = random.integers(0, 60, (32, 32), dtype=np.uint8)
            picture_IJ[:, side] += 90
            Image.fromarray(picture_IJ).save(root / "data" / name / f"{number}.png")
    settings = {name: STUDY[name] for name in ("skip", "width", "batch_size", "steps", "device")}
    settings |= {"patch_size": (EDGE, EDGE), "test_fraction": 0.4, "precision": "fp32"}
    asked = {"task": "classification", "strategies": ["linear-probe"], "seeds": 1, **settings}
    study = api.compare(**asked, networks=["resnet18"], data=root / "data", out=root / "study")
    assert not study.failed
    return StudyFolder(study.folder)


def test_sources_of_classes_are_scored_on_images(
    classified: StudyFolder, catalog: Catalog, fabric: Fabric
) -> None:
    found = measure_transferability(classified, catalog, fabric, Recorder(silent=True))
    source = stage_of(classified, "source-f0-s0", catalog, fabric)
    split = json.loads(classified.split(0).read_text())[0]
    runs, quiet = ended_runs(classified), Recorder(silent=True)
    every = open_cases(classified, runs, catalog, quiet).cases
    cases = [case for case in every if case.id in split["train"]]
    images = [source.predictor.preprocessor(case, with_target=False)["image"] for case in cases]
    labels = [case.class_name for case in cases]
    predictor = source.predictor
    assert isinstance(predictor, Classifier)
    features = []
    module = predictor.network.module.eval()
    last = module.get_submodule(predictor.network.head_tensors[0].rpartition(".")[0])
    handle = last.register_forward_pre_hook(lambda _module, inputs: features.append(inputs[0]))
    plain = replace(predictor, temperature=Temperature())
    probability_NL = np.array(list(plain.probabilities(images)))
    handle.remove()
    feature_NF = torch.cat(features).flatten(1).numpy()
    expected = {
        "LogME": logme(feature_NF, labels),
        "H-score": regularised_h_score(feature_NF, labels),
        "LEEP": leep(probability_NL, labels),
        "NCE": nce(probability_NL.argmax(1), labels),
    }
    assert {row["score"]: row["value"] for row in found.rows()} == pytest.approx(expected, rel=1e-3)
    assert {row["patients"] for row in found.rows()} == {len(cases)}


def test_images_are_the_rows_where_classes_are_told(
    classified: StudyFolder, catalog: Catalog, fabric: Fabric
) -> None:
    found = measured(classified, catalog, fabric)
    assert {row["rows"] for row in found.rows()} == {found.images}
    for block in found.blocks(found.found[0].pair.network)[:-1]:
        assert value(found, "linear-probe", "start", block) == pytest.approx(1, abs=1e-6)


def test_three_sources_are_ranked_against_their_arms(
    folder: StudyFolder, catalog: Catalog, fabric: Fabric, tmp_path: Path
) -> None:
    runs = ("source-f0-s0", "source-f0-s1", "control-a-nall-f0-s0")
    inits = [str(folder.run(name)) for name in runs]
    wanted = {**STUDY, "seeds": 1, "inits": inits}
    data = folder.config.settings["data"]
    study = api.compare(**wanted, data=data, out=tmp_path / "study")
    ranked = StudyFolder(study.folder)
    found = measure_transferability(ranked, catalog, fabric, Recorder(silent=True))
    assert {row["start"] for row in found.rows()} == set(inits)
    (own,) = (each for each in found.ranked if (each.output, each.score) == ("WT", "LogME"))
    predicted = [
        next(
            row["value"]
            for row in found.rows()
            if (row["start"], row["output"], row["score"]) == (init, "WT", "LogME")
        )
        for init in inits
    ]
    reached = [
        next(
            each.score.mean
            for each in study.found.arms
            if (each.arm, each.output) == (f"linear-probe-{number}", "WT")
        )
        for number in range(3)
    ]
    orders = [np.argsort(np.argsort(values)) for values in (predicted, reached)]
    assert own.strategy == "linear-probe"
    assert own.agreement.spearman == pytest.approx(np.corrcoef(*orders)[0, 1])
