"""The phantom keeps what it promises: physics by hand, bytes by seed, BraTS's layout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from medtl.data.case import Cohort
from medtl.data.cohort import open_cohort
from medtl.data.phantom import cohort as cohort_module
from medtl.data.phantom import default_phantom, write_phantom
from medtl.data.phantom.brats_layout import render_case, scanner_of, site_of, tumour_count
from medtl.data.phantom.cohort import read_index, write_own
from medtl.data.phantom.fields import ellipsoid, grid_CIJK, random_field, tube
from medtl.data.phantom.physics import (
    NOMINAL_SEQUENCES,
    TISSUE_NAMES,
    TISSUES,
    Sequence,
    contrast_IJK,
    draw_scanner,
    inversion_recovery,
    rician,
    shorten_t1,
    spin_echo,
)
from medtl.data.task import Task
from medtl.errors import ConfigError, DataError
from medtl.runtime.console import Reporter
from medtl.runtime.leftovers import hidden_name

SIZE = 24


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cohort"
    return write_phantom(root, cases=4, size=SIZE, sites=2, seed=3, workers=2)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.nii.gz"))}


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(
    cohort: Path, tmp_path: Path
) -> None:
    again = write_phantom(tmp_path / "again", cases=4, size=SIZE, sites=2, seed=3, workers=1)
    assert files_of(again) == files_of(cohort)
    assert (again / "phantom.json").read_bytes() == (cohort / "phantom.json").read_bytes()


def test_small_cohort_is_a_prefix_of_a_larger_one(cohort: Path, tmp_path: Path) -> None:
    small = write_phantom(tmp_path / "small", cases=2, size=SIZE, sites=2, seed=3)
    large = files_of(cohort)
    for name, content in files_of(small).items():
        assert large[name] == content
    sites = json.loads((small / "phantom.json").read_text())["sites"]
    larger = json.loads((cohort / "phantom.json").read_text())["sites"]
    assert sites.items() <= larger.items()


def test_another_seed_gives_other_heads(cohort: Path, tmp_path: Path) -> None:
    other = write_phantom(tmp_path / "other", cases=1, size=SIZE, sites=2, seed=4)
    assert all(files_of(cohort)[name] != content for name, content in files_of(other).items())


def test_layout_is_that_of_brats_2021(cohort: Path) -> None:
    index = json.loads((cohort / "phantom.json").read_text())
    assert index["synthetic"] is True
    assert index["cases"] == 4 and index["size"] == SIZE and index["seed"] == 3
    assert set(index["sites"].values()) == {"S1", "S2"}
    folders = sorted(p.name for p in cohort.iterdir() if p.is_dir())
    assert folders == ["Phantom_0001", "Phantom_0002", "Phantom_0003", "Phantom_0004"]
    assert list(index["sites"]) == list(index["patients"]) == folders
    for name in folders:
        images = {p.name for p in (cohort / name).iterdir()}
        assert images == {f"{name}_{part}.nii.gz" for part in ("flair", "t1", "t1ce", "t2", "seg")}
        labels = nib.load(cohort / name / f"{name}_seg.nii.gz")
        assert labels.get_data_dtype() == np.uint8
        assert set(np.unique(labels.dataobj)) <= {0, 1, 2, 4}
        for contrast in ("flair", "t1", "t1ce", "t2"):
            image = nib.load(cohort / name / f"{name}_{contrast}.nii.gz")
            assert image.get_data_dtype() == np.int16
            assert image.shape == (SIZE, SIZE, SIZE)
            assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
            assert np.allclose(image.header.get_zooms(), 180 / SIZE)
            assert np.array_equal(image.affine, labels.affine)


def test_background_is_exactly_zero_and_the_same_in_all_contrasts(cohort: Path) -> None:
    for folder in cohort.glob("Phantom_*"):
        brains = []
        for contrast in ("flair", "t1", "t1ce", "t2"):
            image = np.asarray(nib.load(folder / f"{folder.name}_{contrast}.nii.gz").dataobj)
            assert image.min() == 0
            brains.append(image > 0)
        assert all(np.array_equal(brain, brains[0]) for brain in brains)
        assert 0.1 < brains[0].mean() < 0.4  # a brain of 0.6 to 2.3 litres
        assert not brains[0][[0, -1]].any() and not brains[0][:, [0, -1]].any()
        labels = np.asarray(nib.load(folder / f"{folder.name}_seg.nii.gz").dataobj)
        assert not (labels.astype(bool) & ~brains[0]).any()


def test_signal_equations_match_values_worked_by_hand() -> None:
    # e^-1 recovered, e^-0.5 decayed; inversion at TI = T1 ln 2 with an endless TR is the null.
    assert spin_echo(0.8, 1000.0, 100.0, Sequence(1000, 50)) == pytest.approx(
        0.8 * 0.6321205588 * 0.6065306597
    )
    null = Sequence(1e9, 10, 1000 * math.log(2))
    assert inversion_recovery(1.0, 1000.0, 100.0, null) == pytest.approx(0, abs=1e-12)
    before = Sequence(3000, 100, 500)  # still inverted: 1 - 2 e^-0.5 + e^-3 = -0.163275
    assert inversion_recovery(1.0, 1000.0, 100.0, before) == pytest.approx(
        0.1632742510 * 0.3678794412
    )
    # 1/1000 ms + 4 / (mmol s) * 0.25 mmol = 1 + 1 per second.
    assert shorten_t1(1000.0, 0.25) == pytest.approx(500.0)
    assert shorten_t1(1000.0, 0.0) == pytest.approx(1000.0)


def pure_signals(contrast: str, field_t: float = 3.0) -> dict[str, float]:
    scanner = draw_scanner(np.random.default_rng(0), 0.0)
    assert scanner.field_t == field_t
    count = len(TISSUE_NAMES)
    fractions = np.eye(count).reshape(count, count, 1, 1)
    signal = contrast_IJK(contrast, fractions, np.ones((count, 1, 1)), scanner, np.ones((count, 2)))
    return dict(zip(TISSUE_NAMES, signal.ravel().tolist(), strict=True))


def test_contrasts_order_the_tissues_as_a_radiologist_expects() -> None:
    flair, t1, t1ce, t2 = (pure_signals(c) for c in ("flair", "t1", "t1ce", "t2"))
    assert flair["csf"] < 0.2 * flair["white"] < flair["oedema"]
    assert flair["oedema"] > 1.2 * flair["grey"] > 1.2 * flair["white"]
    assert t1["white"] > t1["grey"] > t1["csf"]
    assert t1["white"] > t1["oedema"] > t1["necrosis"]
    assert t2["csf"] > t2["necrosis"] > t2["oedema"] > t2["grey"] > t2["white"]
    assert t1ce["enhancing"] > 1.3 * t1ce["white"]


def test_contrast_agent_brightens_only_the_tissues_that_take_it_up() -> None:
    t1, t1ce = pure_signals("t1"), pure_signals("t1ce")
    assert NOMINAL_SEQUENCES["t1"] == NOMINAL_SEQUENCES["t1ce"]
    for name, tissue in TISSUES.items():
        if tissue.agent_mmol > 0:
            assert t1ce[name] > 1.2 * t1[name]
        else:
            assert t1ce[name] == t1[name]
    assert {n for n, t in TISSUES.items() if t.agent_mmol} == {"vessel", "choroid", "enhancing"}


def test_rician_noise_has_the_moments_of_scipys_distribution() -> None:
    for signal, sigma in ((0.0, 1.0), (2.0, 1.0), (30.0, 2.0)):
        sample = rician(np.full(200_000, signal), sigma, np.random.default_rng(1))
        expected = stats.rice(signal / sigma, scale=sigma)
        error = 5 * expected.std() / math.sqrt(len(sample))
        assert sample.mean() == pytest.approx(expected.mean(), abs=error)
        assert sample.std() == pytest.approx(expected.std(), rel=0.02)


def test_without_shift_all_sites_have_the_same_scanner() -> None:
    still = [scanner_of(7, site, 0.0) for site in range(5)]
    assert all(scanner == still[0] for scanner in still)
    assert still[0].sequences == NOMINAL_SEQUENCES
    moved = [scanner_of(7, site, 1.0) for site in range(5)]
    assert len({scanner.noise for scanner in moved}) == 5


def test_shift_grows_with_its_setting_and_leaves_anatomy_alone() -> None:
    def distance(shift: float) -> float:
        scanner = scanner_of(7, 1, shift)
        return sum(abs(math.log(gain / 900)) for gain in scanner.gains.values())

    assert distance(0.5) == pytest.approx(distance(1.0) / 2)
    a = render_case(7, 1, SIZE, scanner_of(7, 1, 0.0))
    b = render_case(7, 1, SIZE, scanner_of(7, 1, 1.0))
    assert np.array_equal(a.labels_IJK, b.labels_IJK)
    assert not np.array_equal(a.images_IJK["t1"], b.images_IJK["t1"])


def test_one_case_in_twenty_has_no_tumour_and_its_labels_are_empty() -> None:
    counts = [tumour_count(0, index) for index in range(20 * 8)]
    assert counts.count(0) == 8
    assert {1, 2, 3} <= set(counts)
    scanner = scanner_of(0, 0, 1.0)
    free = counts.index(0)
    assert not render_case(0, free, SIZE, scanner).labels_IJK.any()
    sick = counts.index(1)
    assert render_case(0, sick, SIZE, scanner).labels_IJK.any()


def test_every_site_is_visited_once_in_each_round() -> None:
    for start in range(0, 30, 3):
        assert {site_of(5, start + i, 3) for i in range(3)} == {0, 1, 2}


def test_anatomy_does_not_depend_on_the_voxel_size() -> None:
    scanner = scanner_of(2, 0, 0.0)
    coarse = render_case(2, 1, 24, scanner).labels_IJK.astype(bool)
    fine = render_case(2, 1, 48, scanner).labels_IJK.astype(bool)
    assert coarse.sum() * 8 == pytest.approx(fine.sum(), rel=0.25)
    pooled = fine.reshape(24, 2, 24, 2, 24, 2).mean((1, 3, 5)) >= 0.5
    assert 2 * (pooled & coarse).sum() / (pooled.sum() + coarse.sum()) > 0.8


def test_fields_have_unit_variance_and_distances_are_in_mm() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([random_field(rng, 16, 9.0) for _ in range(40)])
    assert values.std() == pytest.approx(1.0, abs=0.05)
    points = grid_CIJK(18)
    radius = np.sqrt((points**2).sum(0))
    assert np.allclose(ellipsoid(points, (0, 0, 0), (30, 30, 30)), radius - 30)
    capsule = tube(points, [(0, 0, -200), (0, 0, 200)], [5, 5])
    assert np.allclose(capsule, np.hypot(points[0], points[1]) - 5)


def test_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="full"):
        write_phantom(tmp_path / "full", cases=1, size=16, sites=1, seed=0)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_phantom(tmp_path / "empty", cases=1, size=16, sites=1, seed=0)
    assert (tmp_path / "empty" / "phantom.json").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="file") as caught:
            write_phantom(root, cases=1, size=16, sites=1, seed=0)
        assert "\n" not in str(caught.value)


def test_interrupted_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "c", cases=3, size=16, sites=1, seed=0, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_case(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_phantom(
        tmp_path / "c", cases=3, size=16, sites=1, seed=0, progress=lambda *n: seen.append(n)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    "wrong", [{"cases": 0}, {"size": 4}, {"sites": 0}, {"seed": -1}, {"shift": math.nan}]
)
def test_impossible_number_is_named(tmp_path: Path, wrong: dict[str, float]) -> None:
    settings = {"cases": 1, "size": 16, "sites": 1, "seed": 0, "shift": 1.0, **wrong}
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        write_phantom(tmp_path / "c", **settings)  # type: ignore[arg-type]


def test_built_in_cohort_is_written_once_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))
    small = cohort_module.Settings(cases=2, size=16, sites=3, seed=0)
    monkeypatch.setitem(cohort_module.DEFAULTS, cohort_module.BRATS, small)
    left = tmp_path / "cache" / hidden_name("phantom")  # by a process that was killed
    left.mkdir(parents=True)
    root = default_phantom()
    assert not left.exists()
    written = (root / "phantom.json").stat().st_mtime_ns
    assert root.parent == tmp_path / "cache" and "n2-s16" in root.name
    assert default_phantom() == root
    assert (root / "phantom.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["a bit", "a file", "another file", "the hashes"])
def test_damaged_built_in_cohort_is_told_and_made_anew(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path / "cache"))
    small = cohort_module.Settings(cases=1, size=16, sites=1, seed=0)
    monkeypatch.setitem(cohort_module.DEFAULTS, cohort_module.BRATS, small)
    root = default_phantom()
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    image = next(path for path in before if path.name.endswith("t1.nii.gz"))
    match damage:
        case "a bit":
            image.write_bytes(before[image][:-20] + b"\0" + before[image][-19:])
        case "a file":
            image.unlink()
        case "another file":
            image.with_name("more.nii.gz").write_bytes(before[image])
        case _:
            (root / ".hashes.json").write_text("{")
    assert default_phantom() == root
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_own_phantom_of_a_task_is_written_once_and_marked_as_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTL_CACHE", str(tmp_path))
    written = []

    class Dots(Task):
        name = "dots"

        def write_phantom(self, folder: Path, cases: int, seed: int) -> None:
            written.append((cases, seed))
            (folder / "dots.txt").write_text("." * cases)

        def cases(self, root: Path) -> Cohort:
            return Cohort(root, (), synthetic=bool(read_index(root)["synthetic"]))

    found = [open_cohort(Dots(), None, Reporter(quiet=True)) for _ in range(2)]
    assert found[0] == found[1] and found[0].synthetic
    assert written == [(40, 0)]
    assert (found[0].root / "dots.txt").read_text() == 40 * "."


def test_nothing_is_left_of_an_own_phantom_that_cannot_be_written(tmp_path: Path) -> None:
    def write(folder: Path, cases: int, seed: int) -> None:
        (folder / "half.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left on device"):
        write_own(tmp_path / "own", write, 3, 0)
    assert not list(tmp_path.iterdir())


def test_phantom_does_not_replace_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"\.: cannot be written \(it is the current folder\)"):
        write_phantom(Path("."), cases=2, size=16, sites=1, seed=0)
    assert not list(tmp_path.iterdir())
