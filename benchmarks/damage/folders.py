"""Damage to run folders, configs, tables and datalists."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from random import Random

import yaml

from damage.accidents import damaged, one_of, specially
from damage.texts import json_text, table_text, yaml_text
from damage.weights import safetensors
from medtl.config import TrainConfig


def run_folder(folder: Path, random: Random, canary: Path) -> str:
    path = one_of(folder, random, "*.json", "*.json", "*.jsonl", "*.yaml", "*.safetensors", "*.csv")
    if random.random() < 0.35:
        path = one_of(folder, random, "*.safetensors")
    elif random.random() < 0.4:
        path = one_of(
            folder,
            random,
            "config.yaml",
            "splits.json",
            "stages.json",
            "summary.json",
            "metrics.jsonl",
        )
    if what := specially(path, random, canary):
        return what
    content = path.read_bytes()
    if random.random() < 0.12:
        path.write_bytes(damaged(content, random))
        return f"{path.name}: bytes"
    if path.suffix == ".json":
        content = json_text(json.loads(content), random, str(canary))
    elif path.suffix == ".jsonl":
        rows = content.splitlines()
        at = random.randrange(len(rows))
        line = json_text(json.loads(rows[at]), random, str(canary)).replace(b"\n", b" ")
        rows[at : at + random.choice((0, 1))] = [
            random.choice((line, line, b"", b"5", b"\0" * 64, b"null"))
        ]
        content = b"\n".join(rows) + random.choice((b"\n", b"\n", b""))
    elif path.suffix == ".yaml":
        content = yaml_text(content.decode(), [*TrainConfig.model_fields], random, str(canary))
    elif path.suffix == ".safetensors":
        content = safetensors(content, random, str(canary))
    else:
        content = table_text([*csv.reader(io.StringIO(content.decode()))], random, str(canary))
    path.write_bytes(content)
    return f"{path.parent.name}/{path.name}: {path.suffix[1:]}"


def config(folder: Path, random: Random, canary: Path) -> str:
    path = folder / "config.yaml"
    if what := specially(path, random, canary, 0.04):
        return what
    settings = yaml.safe_load(path.read_text())
    if random.random() < 0.35:
        text = json_text(settings, random, str(canary))  # JSON is YAML, but for its escapes
    else:
        text = yaml_text(path.read_text(), [*TrainConfig.model_fields], random, str(canary))
    path.write_bytes(text)
    return "config.yaml"


def table(folder: Path, random: Random, canary: Path) -> str:
    path = one_of(folder, random, "*.csv")
    if what := specially(path, random, canary, 0.04):
        return what
    rows = [*csv.reader(io.StringIO(path.read_text()))]
    path.write_bytes(table_text(rows, random, str(canary)))
    return path.name


def datalist(folder: Path, random: Random, canary: Path) -> str:
    path = one_of(folder, random, "dataset.json", "datalist.json")
    if what := specially(path, random, canary, 0.04):
        return what
    path.write_bytes(json_text(json.loads(path.read_text()), random, str(canary)))
    return path.name
