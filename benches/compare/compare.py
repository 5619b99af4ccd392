#!/usr/bin/env python3
"""Runs `nccl perf` and the peers that this machine has, in turn, and prints ratios of medians.

    cargo build --release -p nccl-cli
    python3 benches/compare/compare.py [--ranks 2] [--transport shm|tcp] [--rounds 5]
        [--sizes 4,1024,...] [--budget 0.12] [--torch PYTHON] [--without PEERS] [--csv FILE]

Peers: Debian's Open MPI and MPICH (mpirun.openmpi with mpicc.openmpi, mpiexec.mpich with mpicc.mpich)
and torch's gloo (TCP only; --torch names a Python that has it). A peer that is missing is named. Every
round runs each once, in a rotated order; a cell's figure is the median over rounds of the median time
of an iteration. The last column is ours over the best peer: below 1 we are ahead.
"""

import argparse
import collections
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def command_line():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--transport", choices=["shm", "tcp"], default="shm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="4,1024,65536,1048576,16777216")
    parser.add_argument("--budget", default="0.12", help="seconds of iterations a cell")
    parser.add_argument("--torch", help="a Python with torch")
    parser.add_argument("--without", default="", help="peers to leave out (mpich collapses with more ranks than cores)")
    parser.add_argument("--csv", help="where to store all rows")
    return parser.parse_args()


def ours(args, _scratch):
    binary = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "nccl"
    if not binary.exists():
        sys.exit(f"{binary} is missing: cargo build --release -p nccl-cli")
    names = "all_reduce all_gather reduce_scatter broadcast all_to_all barrier".split()
    names += ["sendrecv"] if args.ranks == 2 else []
    return [
        str(binary), "perf", *names, "-n", str(args.ranks), "--sizes", args.sizes, "--csv", "-",
        "--budget", args.budget, "-c", "0", "--transport", args.transport,
    ]  # fmt: skip


def mpi(name, compiler, launcher, args, scratch):
    if not shutil.which(compiler) or not shutil.which(launcher[0]):
        return None
    program = scratch / f"mpi_loop_{name}"
    subprocess.run([compiler, "-O2", "-o", program, HERE / "mpi_loop.c"], check=True)
    return [*launcher, "-n", str(args.ranks), str(program), name, args.transport, args.sizes, args.budget]


def peers(args, scratch):
    crowded = args.ranks > (os.cpu_count() or 1)
    openmpi = ["mpirun.openmpi", *(["--oversubscribe"] if crowded else [])]
    mpich = ["mpiexec.mpich", *([] if crowded else ["-bind-to", "core"])]
    if args.transport == "tcp":
        openmpi += "--mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include lo".split()
        os.environ.update(UCX_TLS="tcp,self", UCX_NET_DEVICES="lo", MPIR_CVAR_NOLOCAL="1")
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    found = {
        "openmpi": mpi("openmpi", "mpicc.openmpi", openmpi, args, scratch),
        "mpich": mpi("mpich", "mpicc.mpich", mpich, args, scratch),
    }
    if args.transport == "tcp":
        script = [str(HERE / "gloo_loop.py"), str(args.ranks), args.sizes, args.budget]
        found["torch-gloo"] = [args.torch, *script] if args.torch else None
    for name in [name for name in found if name in args.without.split(",")]:
        print(f"# left out: {name}")
        del found[name]
    for name in [name for name, command in found.items() if not command]:
        print(f"# missing here: {name}")
        del found[name]
    return found


def rows_of(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    rows = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 10]
    rows = [row for row in rows if row[0] != "peer"]
    if done.returncode or not rows:
        print(f"# failed ({done.returncode}): {' '.join(command)}\n# {done.stderr.strip()[-500:]}")
    return rows


def main():
    args = command_line()
    scratch = pathlib.Path(tempfile.mkdtemp())
    commands = {"nccl-rs": ours(args, scratch), **peers(args, scratch)}
    cells, all_rows = collections.defaultdict(list), []
    names = list(commands)
    for turn in range(args.rounds):
        for at in range(len(names)):
            for row in rows_of(commands[names[(at + turn) % len(names)]]):
                all_rows.append(row)
                cells[row[2], int(row[3]), row[0]].append(float(row[5]))
    if args.csv:
        pathlib.Path(args.csv).write_text("\n".join(map(",".join, all_rows)) + "\n")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"# {args.ranks} ranks, {args.transport}, {args.rounds} rounds, {os.cpu_count()} cores, load {load}")
    print("| operation | bytes | ours us | " + " | ".join(f"{name} us" for name in names[1:]) + " | ours / best |")
    print("|---|---|---|" + "---|" * len(names))
    for operation, size in dict.fromkeys((key[0], key[1]) for key in cells):
        medians = {name: statistics.median(cells[operation, size, name]) for name in names if cells[operation, size, name]}
        mine, others = medians.pop("nccl-rs", None), medians
        if mine is None or not others:
            continue
        shown = " | ".join(f"{others[name]:.2f}" if name in others else "-" for name in names[1:])
        best = min(others, key=others.get)
        print(f"| {operation} | {size} | {mine:.2f} | {shown} | {mine / others[best]:.2f} ({best}) |")
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
