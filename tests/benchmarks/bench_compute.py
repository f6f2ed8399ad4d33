"""What the search saves: epochs until the best mAP of unpruned random searches is reached.

    python -m tests.benchmarks.bench_compute FOLDER [--trials 16] [--repetitions 3] [--first 0] [--epochs N]
        [--image-size N] [--slots 2] [--searches plain random] [-o OUT]

FOLDER holds images/ and annotations/{train,val}.json; epochs and image size are those that `tuner init` proposes for
it, if not given. Each repetition has seeds of its own; `--first` is the number of the first, for further ones. It runs,
by the command line as a user would, two random searches without pruning of so many full trials (`--searches` names one
of them, to run it alone): `plain`, as a script without tuner does it, with NMS IoU and confidence among the sampled
dimensions and greedy NMS, and `random`, which differs from the shipped study in sampler and pruner alone, so that
thresholds are swept and NMS with voting is tried after each training. Then it runs the shipped study, until one of its
epochs has the best final mAP of each, or as many epochs are spent as one of them took in all. All begin with the
default config, as every study does, and train `dense-tiny`, and all have the same seed, which is that of every trial,
too: the default config of BCCD alone reaches 0.520, 0.534 and 0.545 with three seeds, more than lies between most good
configs. Epochs of all trials count, in the order in which they were reported. Called again, it goes on where it was
stopped.

For each random search two ratios to its epochs are printed: until its mAP was seen after an epoch, and until a trial
that was trained to its last epoch has it ("never" where the study was stopped before). The best of many noisy trials is
a matter of luck, too, so both searches' epochs until they were within 0.005 of it follow.
"""

from __future__ import annotations

import argparse
import math
import signal
import sqlite3
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.bench_gain import TUNER, tuner

SPACE = Path(__file__).parents[2] / "search_spaces" / "default.yaml"
POLL = 1.0
NEAR = 0.005
"""So little below the best mAP is as good: a fifth of what one config differs by with other seeds."""


def plain_space() -> dict[str, Any]:
    """The shipped space as a script without sweeps has it: thresholds are sampled, NMS is greedy."""
    space: dict[str, Any] = yaml.safe_load(SPACE.read_text())
    return space | {name: space[name] | {"mode": "sample"} for name in ("nms_iou", "confidence")} | {"nms": "greedy"}


SPACES = {"plain": plain_space(), "random": "default"}
"""The spaces of the random searches, by their names."""


@dataclass(frozen=True)
class Epoch:
    """An epoch of a study: of which trial, its number in it, and the mAP after it."""

    trial: int
    number: int
    value: float


def history(out: Path, name: str) -> list[Epoch]:
    """The epochs of a study in the order in which they were reported; none before it was begun."""
    database = out / "compute.db"
    if not database.exists():
        return []
    query = """
        SELECT trial.number, epoch.epoch, epoch.value FROM tuner_epochs AS epoch
        JOIN tuner_trials AS trial ON trial.trial_id = epoch.trial_id
        JOIN tuner_studies AS study ON study.id = trial.study_id
        WHERE study.name = ? ORDER BY epoch.reported_at
    """
    connection = sqlite3.connect(database, timeout=60)
    try:
        return [Epoch(*row) for row in connection.execute(query, (name,))]
    except sqlite3.OperationalError:  # its tables are being made
        return []
    finally:
        connection.close()


def reached(epochs: list[Epoch], target: float, *, last: int = 0) -> int | None:
    """Epochs spent until one has the target (`last`: a trial's last one, by number); None where none has."""
    found = (n for n, epoch in enumerate(epochs, 1) if epoch.value >= target and epoch.number >= last)
    return next(found, None)


def proposed(out: Path) -> dict[str, Any]:
    """The study file that `tuner init` wrote."""
    spec: dict[str, Any] = yaml.safe_load((out / "init.yaml").read_text())
    return spec


def write_study(out: Path, name: str, options: argparse.Namespace, **changes: Any) -> str:
    """A study file like that of `tuner init`, with some changes; its name."""
    spec = proposed(out)
    spec |= {"name": name, "storage": f"sqlite:///{out / 'compute.db'}", "device": "cpu", "slots": options.slots}
    given = {"epochs": options.epochs, "image_size": options.image_size}
    spec["defaults"] |= {"model": "dense-tiny"} | {key: value for key, value in given.items() if value}
    (out / f"{name}.yaml").write_text(yaml.safe_dump(spec | changes, sort_keys=False))
    return f"{name}.yaml"


def search_until(out: Path, name: str, file: str, target: float) -> list[Epoch]:
    """Run a study until it has the target or its budget is spent; its epochs."""
    if reached(history(out, name), target) is None:
        with (out / f"{name}.log").open("a") as log:
            process = subprocess.Popen([TUNER, "run", file], cwd=out, stdout=log, stderr=log)
            while process.poll() is None:
                time.sleep(POLL)
                if reached(history(out, name), target) is not None:
                    process.send_signal(signal.SIGTERM)  # background jobs may ignore Ctrl-C
                    process.wait()
        if process.returncode not in (0, 130):
            raise SystemExit(f"tuner run {file} failed: see {out / name}.log")
    return history(out, name)


def repeat(out: Path, options: argparse.Namespace, repetition: int) -> dict[str, float | None]:
    """One repetition; the ratio to each random search, None where the target was not reached."""
    length = options.epochs or proposed(out)["defaults"]["epochs"]
    full = options.trials * length
    seed = 2 * repetition  # as for the figures in the README
    searches = {}
    for search in options.searches:
        name = f"{search}-{repetition}"
        changes = {"pruner": {"name": "none"}, "budget": {"trials": options.trials}, "space": SPACES[search]}
        tuner(out, "run", write_study(out, name, options, sampler={"name": "random", "seed": seed}, **changes))
        searches[search] = history(out, name)
    name = f"default-{repetition}"
    budget = {"trials": None, "epochs": full}
    file = write_study(out, name, options, sampler={"seed": seed}, budget=budget)
    targets = {search: max(e.value for e in random if e.number == length) for search, random in searches.items()}
    epochs = search_until(out, name, file, max(targets.values()))
    ratios = {}
    for search, random in searches.items():
        target = targets[search]
        seen, complete = reached(epochs, target), reached(epochs, target, last=length)
        text = ", ".join(
            f"{what} {'never' if spent is None else f'after {spent} epochs ({spent / full:.2f} x)'}"
            for what, spent in (("seen", seen), ("in a complete trial", complete))
        )
        print(f"repetition {repetition}: {search} search {full} epochs, best mAP {target:.4f} of {options.trials} "
              f"trials; default study: {text}; best seen {max(epoch.value for epoch in epochs):.4f} in {len(epochs)} "
              f"epochs; within {NEAR} after {reached(epochs, target - NEAR)} epochs, {search} search "
              f"{reached(random, target - NEAR)}", flush=True)  # fmt: skip
        ratios[search] = None if seen is None else seen / full
    return ratios


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, help="of a full trial")
    parser.add_argument("--trials", type=int, default=16, help="of the random search")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="number of the first repetition")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--searches", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("-o", "--out", type=Path, default=Path("bench-compute"))
    options = parser.parse_args()
    folder, out = options.folder.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    files = [f"--annotations={folder / 'annotations' / split}.json" for split in ("train", "val")]
    tuner(out, "init", f"--images={folder / 'images'}", *files, "--name=compute", "-o", "init.yaml", "--force")
    chosen = range(options.first, options.first + options.repetitions)
    repetitions = [repeat(out, options, repetition) for repetition in chosen]
    for search in options.searches:
        ratios = [repetition[search] for repetition in repetitions]
        found = [ratio for ratio in ratios if ratio is not None]
        each = ", ".join("never" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
        mean = f"mean {statistics.mean(found):.2f} x" if len(found) == len(ratios) else "no mean: not all reached it"
        median = statistics.median(math.inf if ratio is None else ratio for ratio in ratios)
        print(f"epochs until the {search} search's best mAP, as a ratio: {each}; median {median:.2f} x, {mean}")


if __name__ == "__main__":
    main()
