"""``medtl compare --config RECIPE``: a published study, as published and soundly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Options of ``medtl compare`` that a recipe has a use for; the rest stands in its file.
USEFUL = (
    *("config", "quick", "data", "steps", "device", "sets", "out"),
    *("jobs", "executor", "slurm", "dry_run", "json", "quiet"),
)


def recipe_file(config: Path | None, out: Path | None, *, named: bool, quick: bool) -> Path | None:
    """The file of the recipe that the options name, or that was begun in ``out``; None if none.

    Args:
        named: whether a task is named, which a recipe has itself.

    Raises:
        ConfigError: ``quick`` is for a recipe, and there is none.
    """
    from medtl.errors import ConfigError
    from medtl.study.recipes.folder import RECIPE, is_begun
    from medtl.study.recipes.resolve import is_recipe

    if config is None and not named and out and is_begun(out):
        config = out / RECIPE
    if config is not None and is_recipe(config):
        if named:
            raise ConfigError(f"{config} is a recipe, which names its tasks; drop the task")
        return config
    if quick:
        what = f"{config} is none; drop it" if config else "name one by --config, or drop it"
        raise ConfigError(f"--quick is for a recipe; {what}")
    return None


def carry_out_recipe(
    file: Path,
    given: Mapping[str, Any],
    *,
    quick: bool,
    out: Path | None,
    jobs: int,
    executor: str,
    slurm: list[str],
    dry_run: bool,
    json: bool,
    quiet: bool,
) -> int:
    """Plan or carry out the recipe; returns the exit code."""
    from medtl.cli.errors import SOME_FAILED
    from medtl.plugins.catalog import load_catalog
    from medtl.runtime.console import Reporter, print_json
    from medtl.study.recipes.folder import folder_for
    from medtl.study.recipes.resolve import resolve_recipe

    recipe = resolve_recipe(file, quick=quick, given=given)
    reporter, catalog, out = Reporter(quiet or json), load_catalog(), out or folder_for(file, quick)

    from medtl.study.executors import choose_executor
    from medtl.study.slurm import read_options

    execute = choose_executor(executor, catalog, jobs=jobs, slurm=read_options(slurm))
    if dry_run:
        from medtl.study.recipes.preview import plan_recipe

        planned = plan_recipe(recipe, out, catalog, reporter)
        if json:
            print_json(planned.to_json())
        return 0
    from medtl.study.recipes.run import run_recipe

    found = run_recipe(recipe, out, catalog, reporter, execute)
    if json:
        print_json(found.to_json())
    return SOME_FAILED if found.failed else 0
