"""Training steps beside other libraries', in one interleaved run.

    .venv-test/bin/python ci/bench [--workloads W2 W3] [--peers torch jax] [--threads 1 2] [--rounds 40] [--quick] [--json FILE]

Each peer is a process of its own with the same initial weights and the same batches, and all must compute the same losses. After 2,000
steps of warm-up (400 for W4 and W8; Adam's moments of dead units have decayed by then) the parent asks for bursts of steps in random
order, and takes the ratio to PyTorch eager's time round by round: these ratios hold when the machine's speed drifts. With one thread all
peers run on the same core, in turn. Peers that are not installed are left out.

--quick compares xpnet with PyTorch eager alone, and the ratios with those of the committed table, ci/bench/results.json: what got worse by
more than its noise is said. It is no test, and its exit status says nothing of speed.
"""

import argparse
import importlib
import importlib.util
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import time

import floor
from peers import ENVIRONMENT, NAMES, NEEDS, NOTES
from workloads import BATCHES, WORKLOADS

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results.json"
CHECKED = BATCHES


def serve(peer, name, threads, warmup):
    """A peer's process: what it is and the losses of its first steps, the warm-up, then a time for each line read."""
    from workloads import data

    w = WORKLOADS[name]
    module_name, options = NAMES[peer]
    inputs = data(w)
    start = time.perf_counter()
    try:
        module = importlib.import_module(f"peers.{module_name}")
    except ImportError as e:
        return print(json.dumps({"missing": str(e)}), flush=True)
    imported = time.perf_counter() - start
    step = module.make(w, *inputs, threads, **options)
    if step is None:
        return print(json.dumps({"missing": "does not take this workload"}), flush=True)
    stride = getattr(module, "STEPS_A_CALL", 1)
    losses = [step(i) for i in range(0, CHECKED, stride)]
    if not w.train:
        losses = [losses[0].sum()]
    print(json.dumps({"losses": [float(v) for v in losses], "import_s": imported, "version": module.version,
                      "tolerance": getattr(module, "TOLERANCE", 2e-3)}), flush=True)
    done = CHECKED
    if not sys.stdin.readline():                          # the losses were not those of the others
        return None
    while done < warmup:
        step(done)
        done += stride
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        core = {max(os.sched_getaffinity(0))}             # the same core for every peer: cores of shared machines differ
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), core)
    print(flush=True)
    steps = -(-w.burst // stride)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(steps):
            step(done)
            done += stride
        print((time.perf_counter() - start) / (steps * stride), flush=True)
    import resource

    return print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


class Worker:
    def __init__(self, peer, workload, threads, warmup):
        environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
        environment |= {"PYTHONWARNINGS": "ignore", **ENVIRONMENT.get(peer, {})}
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        self.process = subprocess.Popen([sys.executable, HERE, "--serve", peer, workload, str(threads), str(warmup)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        line = self.process.stdout.readline()
        self.about = json.loads(line) if line else {"missing": "its process failed"}
        self.times = []

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        return float(line) if line.strip() else None

    def end(self):
        self.process.stdin.close()
        rest = self.process.stdout.read().split()
        self.process.wait()
        return float(rest[-1]) if rest else None


def compare(name, peers, threads, rounds, warmup):
    """A row of results: for each peer the median time, the ratio to PyTorch eager's with its quartiles, memory and import time."""
    workers = {peer: Worker(peer, name, threads, warmup) for peer in peers}
    for peer in [p for p, w in workers.items() if "missing" in w.about]:
        workers.pop(peer).end()
    check_losses(name, {peer: (w.about["losses"], w.about["tolerance"]) for peer, w in workers.items()})
    for w in workers.values():                            # they warm up beside each other, and are timed one by one
        w.go()
    for w in workers.values():
        w.answer()
    for _ in range(rounds):
        for w in random.sample(list(workers.values()), len(workers)):
            w.go()
            w.times.append(w.answer())
    row = {"workload": name, "threads": threads, "rounds": rounds, "peers": {}}
    for peer, w in workers.items():
        ratios = sorted(a / b for a, b in zip(w.times, workers["torch"].times)) if "torch" in workers else []
        row["peers"][peer] = {"us": 1e6 * statistics.median(w.times), "peak_mib": w.end(), "import_s": w.about["import_s"],
                              "version": w.about["version"]}
        if ratios:
            row["peers"][peer] |= {"ratio": statistics.median(ratios),
                                   "quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]]}
    return row


def check_losses(name, losses):
    """All peers' first losses are those of xpnet, or the mean of them where a peer gives the mean of several steps."""
    ours, _ = losses["xpnet"]
    for peer, (theirs, tolerance) in losses.items():
        reference = ours if len(theirs) == len(ours) else [statistics.mean(ours)]
        if not all(abs(a - b) < tolerance * max(abs(b), 1e-3) for a, b in zip(theirs, reference)):   # NaN is not
            sys.exit(f"{name}: {peer} computes other losses: {theirs[:3]} and {reference[:3]}")


def table(rows, peers):
    """Markdown: the ratios of all peers to PyTorch eager."""
    shown = [p for p in peers if any(p in r["peers"] for r in rows)]
    lines = ["| | threads | " + " | ".join(f"{p} µs" if p == "torch" else p for p in shown) + " | floor |",
             "|---|---|" + "---|" * (len(shown) + 1)]
    for r in rows:
        cells = []
        for p in shown:
            v = r["peers"].get(p)
            if v is None:
                cells.append("")
            elif p == "torch":
                cells.append(f"{v['us']:.0f}")
            elif p.startswith("xpnet"):
                cells.append(f"**{v['ratio']:.2f}** ({v['quartiles'][0]:.2f} - {v['quartiles'][1]:.2f})")
            else:
                cells.append(f"{v['ratio']:.2f}")
        f = r.get("floor_us")
        cells.append(f"{f / r['peers']['torch']['us']:.2f}" if f and "torch" in r["peers"] else "")
        lines.append(f"| {r['workload']} | {r['threads']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def readme_table(rows):
    """The table of the README: ratios to PyTorch eager's time, the slower ones too."""
    peers = {"xpnet": "xpnet", "xpnet numba": "with numba", "torch fused": "PyTorch, fused optimizer", "torch compile": "torch.compile",
             "jax": "JAX jit", "scikit-learn": "scikit-learn", "thinc": "Thinc", "autograd": "autograd"}
    lines = ["| | workload | batch | " + " | ".join(peers.values()) + " | floor | PyTorch, ms |",
             "|---|---|---|" + "---|" * (len(peers) + 2)]
    for r in (r for r in rows if r["threads"] == 1):
        torch = r["peers"]["torch"]["us"]
        cells = [f"{r['peers'][p]['ratio']:.2f}" if p in r["peers"] else "" for p in peers]
        lines.append(f"| {r['workload']} | {r['what']} | {r['batch']} | **{cells[0]}** | " + " | ".join(cells[1:])
                     + f" | {r['floor_us'] / torch:.2f} | {torch / 1000:.3g} |")
    return "\n".join(lines)


def memory_table(rows, peers):
    """Markdown: the peak of memory of each process, MiB."""
    shown = [p for p in peers if any(p in r["peers"] for r in rows)]
    return "\n".join(["| peak MiB | threads | " + " | ".join(shown) + " |", "|---|---|" + "---|" * len(shown),
                      *(f"| {r['workload']} | {r['threads']} | "
                        + " | ".join(f"{r['peers'][p]['peak_mib']:.0f}" if p in r["peers"] else "" for p in shown) + " |" for r in rows)])


def machine():
    import numpy as np

    about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__}
    try:
        import threadpoolctl

        blas = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
        about["blas"] = ", ".join(f"{p['internal_api']} {p['version']} {p.get('architecture', '')}".strip() for p in blas)
    except ImportError:
        about["blas"] = "unknown: threadpoolctl is not installed"
    return about


def guard(rows):
    """Say what got worse than the committed table by more than the noise of both."""
    if not RESULTS.exists():
        return "no committed table"
    committed = {(r["workload"], r["threads"]): r["peers"]["xpnet"] for r in json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]}
    worse = []
    for r in rows:
        new, old = r["peers"]["xpnet"], committed.get((r["workload"], r["threads"]))
        if old and new["quartiles"][0] > old["quartiles"][1] and new["ratio"] > 1.05 * old["ratio"]:
            worse.append(f"{r['workload']} with {r['threads']} thread(s): {new['ratio']:.2f}, was {old['ratio']:.2f}")
    return "worse than the committed table by more than the noise:\n  " + "\n  ".join(worse) if worse else \
        "nothing is worse than the committed table by more than the noise"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--peers", nargs="+", default=list(NAMES), choices=list(NAMES), help="beside xpnet and torch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="threads of BLAS and of the peers")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--warmup", type=int, help="steps before the first time, instead of 2,000 (W4 and W8: 400; W9c: 100)")
    parser.add_argument("--quick", action="store_true", help="PyTorch eager alone, fewer rounds, compared with the committed table")
    parser.add_argument("--json", help="write the results to this file too")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        peer, name, threads, warmup = args.serve
        return serve(peer, name, int(threads), int(warmup))
    peers = ["xpnet", "torch"] if args.quick else list(dict.fromkeys(["xpnet", "xpnet numba", "torch", *args.peers]))
    peers = [p for p in peers if importlib.util.find_spec(NEEDS[NAMES[p][0]]) and (p != "xpnet numba" or importlib.util.find_spec("numba"))]
    rounds = min(args.rounds, 15) if args.quick else args.rounds
    about = machine()
    print(", ".join(f"{k} {v}" for k, v in about.items()) + f"; {rounds} rounds\n", flush=True)
    rows = []
    for threads in args.threads:
        rates = floor.rates(threads)
        print(f"{threads} thread(s): {rates['gemm'] / 1e9:.0f} GFLOP/s in matrix products, {rates['bytes'] / 1e9:.1f} GB/s", flush=True)
        for name in args.workloads:
            w = WORKLOADS[name]
            row = compare(name, peers, threads, rounds, args.warmup or w.warmup) | {"what": w.what, "batch": w.batch}
            row["floor_us"] = 1e6 * floor.seconds(w, rates)
            rows.append(row)
            print("\n".join([*(table(rows[:1], peers).split("\n")[:2] if len(rows) == 1 else []), table([row], peers).split("\n")[-1]]),
                  flush=True)
    print("\n" + table(rows, peers))
    for p in peers:
        if p in NOTES:
            print(f"{p}: {NOTES[p]}")
    print("\n" + memory_table(rows, peers) + "\n")
    print("; ".join(f"{p} {v['version']}, import {v['import_s']:.2f} s" for p, v in rows[0]["peers"].items()))
    if args.quick:
        print(guard(rows))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
