"""Figures of a shift: embeddings (with their points as CSV), densities, and a grid of values.

The same input gives the same bytes. Axes: N row, F feature, U unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from medtl.data.subset import evenly_spaced, stride
from medtl.runtime.figure_style import GREY, colours, new_grid, save, styled
from medtl.runtime.files import write_csv
from medtl.shift.images.pool import Pooled
from medtl.shift.report.row import ShiftRow
from medtl.shift.report.sentences import feature_words

#: Most points in an embedding; more rows are thinned out evenly.
MOST_POINTS = 1000

#: Most patients whose points are joined; more lines would hide the points.
MOST_JOINED = 30

DENSITIES = 6

#: Bins of a density; few images get few bins.
BINS, FEWEST_BINS, ROWS_PER_BIN = 30, 6, 4

FEWEST_FOR_TSNE = 8

MARKERS = "os^Dv*XP"

#: The name of units in both domains.
BOTH = "both"


def write_figures(
    folder: Path, pooled: Pooled, features: str, ends: tuple[str, str], synthetic: bool
) -> list[Path]:
    """Draw PCA, t-SNE and densities of one set of features; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen_N = np.array(evenly_spaced(len(pooled.rows.values_NF), MOST_POINTS))
    written = []
    for name, points_N2 in _embeddings(pooled.rows.values_NF[chosen_N]):
        path = folder / f"{features}-{name.lower()}.png"
        _draw_embedding(path, name, points_N2, chosen_N, pooled, features, ends, synthetic)
        _write_points(path.with_suffix(".csv"), points_N2, chosen_N, pooled)
        written.append(path)
    path = folder / f"{features}-densities.png"
    _draw_densities(path, pooled, features, ends, synthetic)
    return [*written, path]


def write_grid(path: Path, rows: Sequence[ShiftRow], synthetic: bool) -> None:
    """Draw a heat map of one metric between the sources and targets of ``rows``."""
    sources = list(dict.fromkeys(row.source for row in rows))
    targets = list(dict.fromkeys(row.target for row in rows))
    values = np.full((len(sources), len(targets)), np.nan)
    for row in rows:
        values[sources.index(row.source), targets.index(row.target)] = row.value
    with styled():
        size = 2.2 + 0.9 * len(targets), 1.6 + 0.6 * len(sources)
        figure, ((axes,),) = new_grid(1, 1, size)
        low = min(0.0, float(np.nanmin(values)))
        grid = np.ma.masked_invalid(values)
        picture = axes.imshow(grid, cmap="viridis", aspect="auto", vmin=low)
        axes.set_xticks(range(len(targets)), targets, rotation=20, ha="right")
        axes.set_yticks(range(len(sources)), sources)
        axes.set(xlabel="target", ylabel="source")
        middle = low / 2 + np.nanmax(values) / 2
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "black" if value > middle else "white"
                axes.text(j, i, f"{value:.2g}", ha="center", va="center", color=colour)
        figure.colorbar(picture, label=rows[0].metric)
        save(figure, path, f"{rows[0].metric} of {rows[0].features}", synthetic)


def _embeddings(values_NF: NDArray[np.float64]) -> list[tuple[str, NDArray[np.float64]]]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows, columns = values_NF.shape
    if columns < 2 or rows < 3:
        return []
    embeddings = [("PCA", PCA(2, svd_solver="full").fit_transform(values_NF))]
    if rows >= FEWEST_FOR_TSNE:
        tsne = TSNE(2, perplexity=min(30.0, (rows - 1) / 3), init="pca", random_state=0, n_jobs=1)
        embeddings.append(("t-SNE", tsne.fit_transform(values_NF.astype(np.float32))))
    return [(name, np.asarray(points, dtype=np.float64)) for name, points in embeddings]


def _domain_U(pooled: Pooled, ends: tuple[str, str]) -> list[str]:
    """The name that colours each unit: its group, or its domain."""
    if any(pooled.group_U):
        return list(pooled.group_U)
    names = {(True, False): ends[0], (False, True): ends[1], (True, True): BOTH}
    return [names[bool(a), bool(b)] for a, b in zip(pooled.source_U, pooled.target_U, strict=True)]


def _in_order(names: Sequence[str], ends: tuple[str, str]) -> list[str]:
    """The source first, then the target, then others by name."""
    return sorted(set(names), key=lambda name: (name not in ends, name != ends[0], name))


def _draw_embedding(
    path: Path,
    name: str,
    points_N2: NDArray[np.float64],
    chosen_N: NDArray[np.intp],
    pooled: Pooled,
    features: str,
    ends: tuple[str, str],
    synthetic: bool,
) -> Figure:
    """Colours show domains; markers show modalities unless the domains are modalities."""
    unit_N = pooled.rows.unit_N[chosen_N]
    domain_U = _domain_U(pooled, ends)
    domain_N = np.array(domain_U)[unit_N]
    modality_N = np.array(pooled.modality_U)[unit_N]
    palette = colours(_in_order(domain_U, ends))
    marked = set(pooled.modality_U) if tuple(domain_U) != pooled.modality_U else {""}
    markers = dict(zip(sorted(marked), cycle(MARKERS), strict=False))
    with styled():
        figure, ((axes,),) = new_grid(1, 1, (5.8, 4.2))
        joined = _join_patients(axes, points_N2, pooled.rows.patient_U[unit_N])
        for domain, colour in palette.items():
            for modality, marker in markers.items():
                here_N = domain_N == domain
                if len(markers) > 1:
                    here_N = here_N & (modality_N == modality)
                x, y = points_N2[here_N].T
                axes.scatter(x, y, s=16, color=colour, alpha=0.75, linewidths=0, marker=marker)
        axes.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")
        handles = [_key("s", colour, _end(domain, ends)) for domain, colour in palette.items()]
        if len(markers) > 1:
            handles += [_key(marker, GREY, modality) for modality, marker in markers.items()]
        figure.legend(handles=[*handles, *joined], loc="outside right center")
        return save(figure, path, f"{name} of {features}", synthetic)


def _key(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=5, label=label)


def _end(domain: str, ends: tuple[str, str]) -> str:
    """A domain's name, and whether it is source or target."""
    roles = dict(zip(ends, ("source", "target"), strict=True))
    return f"{domain} ({roles[domain]})" if domain in roles and ends[0] != ends[1] else domain


def _join_patients(
    axes: Axes, points_N2: NDArray[np.float64], patient_N: NDArray[np.intp]
) -> list[Line2D]:
    """Draw lines from each patient's points to their mean; returns the legend's entry."""
    patients, counts = np.unique(patient_N, return_counts=True)
    several = patients[counts > 1]
    chosen = several[:: stride(len(several), MOST_JOINED)]
    look: dict[str, Any] = {"color": GREY, "lw": 0.4, "marker": ".", "markersize": 2.5}
    for patient in chosen:
        own_N2 = points_N2[patient_N == patient]
        middle = own_N2.mean(axis=0)
        axes.plot(*middle, **look, zorder=0)
        for point in own_N2:
            axes.plot(*zip(middle, point, strict=True), color=GREY, lw=0.4, alpha=0.5, zorder=0)
    if not len(chosen):
        return []
    some = "" if len(chosen) == len(several) else f"\n({len(chosen)} of {len(several)} patients)"
    return [Line2D([], [], **look, label=f"to the mean of\na patient's points{some}")]


def _write_points(
    path: Path, points_N2: NDArray[np.float64], chosen_N: NDArray[np.intp], pooled: Pooled
) -> None:
    rows = []
    for unit, (x, y) in zip(pooled.rows.unit_N[chosen_N], points_N2, strict=True):
        patient = pooled.patients[pooled.rows.patient_U[unit]].rpartition(":")[2]
        where = pooled.modality_U[unit], pooled.group_U[unit]
        domains = int(pooled.source_U[unit]), int(pooled.target_U[unit])
        rows.append((patient, *where, *domains, f"{x:.6g}", f"{y:.6g}"))
    columns = "patient", "modality", "group", "in_source", "in_target", "x", "y"
    write_csv(path, columns, rows, end="\n")


def _draw_densities(
    path: Path, pooled: Pooled, features: str, ends: tuple[str, str], synthetic: bool
) -> Figure:
    """Histograms of the features whose means differ most, in pooled standard deviations."""
    values_NF, unit_N = pooled.rows.values_NF, pooled.rows.unit_N
    domain_N = np.array(_domain_U(pooled, ends))[unit_N]
    names = _in_order(domain_N.tolist(), ends)
    groups = [name for name in names if name != BOTH] or names
    means_GF = np.array([values_NF[domain_N == name].mean(axis=0) for name in groups])
    leading = np.argsort(-np.ptp(means_GF, axis=0), kind="stable")[:DENSITIES]
    columns = min(3, len(leading))
    rows = -(-len(leading) // columns)
    with styled():
        figure, grid = new_grid(rows, columns, (2.6 * columns, 1.2 + 1.9 * rows))
        palette, lowest = colours(groups), {}
        bins = min(BINS, max(FEWEST_BINS, len(values_NF) // ROWS_PER_BIN))
        for cell, feature in enumerate(leading):
            axes = lowest[cell % columns] = grid[cell // columns][cell % columns]
            low, high = np.percentile(values_NF[:, feature], (0.5, 99.5))
            edges = np.linspace(low, high if high > low else low + 1, bins + 1).tolist()
            for name in groups:
                values_N = np.clip(values_NF[domain_N == name, feature], edges[0], edges[-1])
                axes.hist(values_N, edges, density=True, histtype="step", color=palette[name])
            axes.set_title(_titled(pooled.rows.names, feature), fontsize=8)
            axes.set_yticks([])
        for cell in range(len(leading), rows * columns):
            grid[cell // columns][cell % columns].set_axis_off()
        for axes in lowest.values():
            axes.set_xlabel("standard deviations from the mean", fontsize=8)
        for line in grid:
            line[0].set_ylabel("density", fontsize=8)
        lines = [Line2D([], [], color=palette[name], label=_end(name, ends)) for name in groups]
        figure.legend(handles=lines, loc="outside lower center", ncols=min(4, len(groups)))
        return save(figure, path, f"{features}: what differs most", synthetic)


def _titled(names: Sequence[str], feature: int) -> str:
    """A feature's description and its name in the tables."""
    name, volumes = names[feature], any(name.endswith("_k") for name in names)
    words = feature_words(name, pictures=not volumes)
    return words if words == name else f"{words}\n({name})"
