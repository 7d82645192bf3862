"""Does a command that is killed at any moment, and run again, end with the same results?

`train`, `predict`, `evaluate`, `shift` and `compare` on a small phantom are killed (SIGKILL) at 20
random moments each. The same command again (of a run that has begun: `--resume`) must end with the
results of a command that nobody killed, and leave the same files: no temporary one in the output
folder, beside it or in the cache. A moment is a share of the time that the whole command takes,
without its imports.

    python benchmarks/kills.py --work kills    # 20 minutes on two cores; goes on where it stopped
    python benchmarks/kills.py --work kills --rounds 3 --commands predict,shift
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from damage.server import Server
from machine import describe
from unchanged import cleaned, read

from medtl.data.phantom import write_phantom

RESULTS = Path(__file__).resolve().parent / "results" / "kills.json"
ON = "--device cpu --precision fp32"
MODALITIES = "--src flair,t1ce --dst t1,t2"
TRAIN = (
    f"train brats --data {{data}} --strategy modality-transfer {MODALITIES} --steps 6 {ON} -q "
    "--network plain-unet --width 4 --batch-size 2 --spacing 6 --set patch_size=32,32,32 "
    "--workers 0 --transforms brain-mr --cache disk --out {out}"
)
#: Command -> its words; ``{run}`` is a finished run.
COMMANDS = {
    "train": TRAIN,
    "predict": f"predict {{run}} -i {{data}} -o {{out}} {ON} -q",
    "evaluate": f"evaluate {{run}} {ON} --json",
    "shift": f"shift brats --data {{data}} {MODALITIES} --permutations 99 --out {{out}} -q",
    "compare": f"compare brats --data {{data}} --strategies fine-tune {MODALITIES} --steps 2 "
    f"--networks plain-unet --seeds 2 --budgets 2,all --skip joint --device cpu --out {{out}} -q "
    "--set width=4 --set batch_size=2 --set spacing_mm=6 --set patch_size=32,32,32 "
    "--set workers=0 --set cache=disk --set precision=fp32",
}
#: What tells of the machine, or of the time that something took.
LEFT_OUT, LEFT_OUT_FOLDERS = ("environment.json", ".lock"), ("logs", "state")
LONG_S = 600.0


class Bench:
    """Data, a finished run, and one folder for every round, so that its paths are the same."""

    def __init__(self, work: Path) -> None:
        self.work, self.server = work.resolve(), Server()
        self.round = self.work / "round"
        self.data, self.run = self.work / "data", self.work / "run"

    def prepare(self) -> None:
        if not self.data.is_dir():
            making = self.work / "making"
            shutil.rmtree(making, ignore_errors=True)
            write_phantom(making, cases=8, size=24, sites=2, seed=3, workers=1)
            making.rename(self.data)
        if not (self.run / "summary.json").is_file():
            shutil.rmtree(self.run, ignore_errors=True)
            self.fresh()
            self.expect(TRAIN.format(data=self.data, out=self.run))

    def fresh(self) -> None:
        shutil.rmtree(self.round, ignore_errors=True)
        self.round.mkdir(parents=True)
        if self.run.is_dir():
            shutil.copytree(self.run, self.round / "run")

    def launch(self, words: str, seconds: float) -> dict[str, Any]:
        """The command, killed after so many seconds."""
        streams = {name: str(self.work / name) for name in ("stdout", "stderr", "noted")}
        environment = {"MEDTL_CACHE": str(self.round / "cache")}
        return self.server.run(
            words=words.split(),
            folder=str(self.round),
            environment=environment,
            writable=["/"],
            limit_s=seconds,
            limit_mb=100_000,
            **streams,
        )

    def expect(self, words: str) -> dict[str, Any]:
        reply = self.launch(words, LONG_S)
        if reply["code"]:
            error = (self.work / "stderr").read_text()
            raise RuntimeError(f"medtl {words}: {reply['code']} {error.strip()[-500:]}")
        return reply

    def words(self, command: str) -> str:
        places = {"data": self.data, "out": self.round / "out", "run": self.round / "run"}
        return COMMANDS[command].format(**places)

    def whole(self, command: str) -> tuple[float, dict[str, Any]]:
        """Seconds and results of a command that nobody kills."""
        self.fresh()
        seconds = self.expect(self.words(command))["seconds"]
        return seconds, self.left()

    def left(self) -> dict[str, Any]:
        """What was printed, every file that is there, and the content of those with results."""
        found: dict[str, Any] = {"printed": (self.work / "stdout").read_text()}
        for path in sorted(self.round.rglob("*")):
            name = path.relative_to(self.round).as_posix()
            timed = path.parent.name in LEFT_OUT_FOLDERS
            if path.is_file() and path.name not in LEFT_OUT and not timed:
                found[name] = None if name.startswith("cache/") else self.content(path)
        return found

    def content(self, path: Path) -> Any:
        if path.suffix in (".safetensors", ".yaml"):
            return sha256(path.read_bytes()).hexdigest()
        return json.loads(json.dumps(cleaned(read(path), self.round)))

    def killed(self, command: str, random: Random, seconds: float) -> dict[str, Any]:
        """Kill the command after a share of its time and run it again."""
        words, out, stopped = self.words(command), self.round / "out", ""
        while not stopped:  # else it was faster than before, and had ended
            self.fresh()
            share = random.random()
            stopped = self.launch(words, share * seconds)["stopped"]
        resumed = command == "train" and (out / "config.yaml").is_file()
        row = {"command": command, "share": round(share, 3), "resumed": resumed}
        if command == "shift" and (out / "shift.json").is_file():  # it had ended, and says so
            return row
        try:
            self.expect(f"train --resume {out} -q" if resumed else words)
        except RuntimeError as problem:
            return row | {"identical": False, "differs": [str(problem)]}
        return row


def differing(whole: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """The files that only one has, or that hold other things."""
    return sorted(
        name
        for name in whole.keys() | again.keys()
        if name not in whole or name not in again or whole[name] != again[name]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("kills-work"), help="folder to work in")
    parser.add_argument("--rounds", type=int, default=20, help="of each command")
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    bench = Bench(options.work)
    bench.prepare()
    path = bench.work / f"rows-{options.seed}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    with path.open("a") as file:
        for command in options.commands.split(","):
            done = sum(row["command"] == command for row in rows)
            if done >= options.rounds:
                continue
            seconds, whole = bench.whole(command)
            for number in range(done, options.rounds):
                random = Random(f"{options.seed} {command} {number}")
                row = bench.killed(command, random, seconds)
                if "differs" not in row:
                    differs = differing(whole, bench.left())
                    if command == "predict":  # it warns of the files that it replaced
                        differs = [name for name in differs if name != "out/summary.json"]
                    row |= {"identical": not differs, "differs": differs}
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(f"{number + 1}/{options.rounds} {json.dumps(row)[:400]}", flush=True)
    same = all(row["identical"] for row in rows)
    result = {"machine": describe(), "seed": options.seed, "identical": same, "rounds": rows}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(0 if same else "some results differ")


if __name__ == "__main__":
    main()
