"""What a study is worth: its best config against the default one, both trained again, judged on the test split.

    python tests/benchmarks/bench_gain.py FOLDER [--trials 30] [--epochs 20] [--seeds 3] [-o OUT]

FOLDER holds images/ and annotations/{train,val,test}.json. Everything runs through the command line, as a user
would: `tuner init`, `tuner run`, `tuner export` of the best trial and of trial 0 (the default config), then
`tuner train` of both with fresh seeds, two at a time, each on a core of its own. Prints the epochs that pruning
saved, and test mAP and AP50 of both configs with mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TUNER = Path(sys.executable).with_name("tuner")


def tuner(out: Path, *arguments: str, cores: set[int] | None = None) -> str:
    """Run a command in the output folder, on some cores only if asked; its standard output."""
    pin = None if cores is None else lambda: os.sched_setaffinity(0, cores)
    done = subprocess.run([TUNER, *arguments], cwd=out, capture_output=True, text=True, preexec_fn=pin)
    if done.returncode:
        raise SystemExit(f"tuner {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path, default=Path("bench-gain"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folder, out = options.folder.resolve(), options.out.resolve()

    files = [f"--annotations={folder / 'annotations' / split}.json" for split in ("train", "val", "test")]
    tuner(out, "init", f"--images={folder / 'images'}", *files, "--name=gain", "-o", "gain.yaml", "--force")
    start = time.monotonic()
    print(tuner(out, "run", "gain.yaml", f"--trials={options.trials}", f"--epochs={options.epochs}"))
    print(f"study: {time.monotonic() - start:.0f} s of wall time\n")

    tuner(out, "export", "gain", "-o", "best.yaml", "--force")
    tuner(out, "export", "gain", "--trial", "0", "-o", "default.yaml", "--force")
    jobs = [(name, seed) for seed in range(1, options.seeds + 1) for name in ("default", "best")]

    def train(job: tuple[str, int]) -> dict[str, float]:
        name, seed = job
        core = 0 if name == "default" else 1
        model = out / f"{name}-{seed}"
        tuner(out, "train", f"{name}.yaml", "-o", str(model), f"--seed={seed}", cores={core})
        return json.loads((model / "metrics.json").read_text())["metrics"]

    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(jobs, pool.map(train, jobs), strict=True))
    print("config   metric  mean   s.d.   of each seed")
    for name in ("default", "best"):
        for metric in ("map", "map50"):
            values = [results[name, seed][metric] for seed in range(1, options.seeds + 1)]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            each = " ".join(f"{value:.3f}" for value in values)
            print(f"{name:8} {metric:6}  {statistics.mean(values):.3f}  {spread:.3f}  {each}")


if __name__ == "__main__":
    main()
