"""The operations of `nccl perf --csv` over torch's gloo: one CSV row per operation and size.

Run as: python gloo_loop.py RANKS SIZES BUDGET   (ranks are processes of this machine, over TCP)
"""

import os
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def operations(rank, ranks):
    def sendrecv(whole, _share, out, _parts):
        if rank == 0:
            dist.send(whole, 1)
            dist.recv(out[: whole.numel()], 1)
        elif rank == 1:
            dist.recv(out[: whole.numel()], 0)
            dist.send(whole, 0)

    ops = {
        "all_reduce": lambda whole, share, out, parts: dist.all_reduce(whole),
        "all_gather": lambda whole, share, out, parts: dist.all_gather_into_tensor(parts, share),
        "reduce_scatter": lambda whole, share, out, parts: dist.reduce_scatter_tensor(share, parts),
        "broadcast": lambda whole, share, out, parts: dist.broadcast(whole, 0),
        "all_to_all": lambda whole, share, out, parts: dist.all_to_all_single(out[: parts.numel()], parts),
        "barrier": lambda whole, share, out, parts: dist.barrier(),
    }
    if ranks == 2:
        ops["sendrecv"] = sendrecv
    return ops


def run(rank, ranks, sizes, budget, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    for name, once in operations(rank, ranks).items():
        for size in [0] if name == "barrier" else sizes:
            count = max(size // 4, 1)
            each = max(count // ranks, 1)
            whole, share = torch.zeros(count), torch.zeros(each)
            out, parts = torch.zeros(max(count, each * ranks)), torch.zeros(each * ranks)
            quickest = 1e9
            for _ in range(3 if size >= 1 << 20 else 20):
                begun = time.perf_counter()
                once(whole, share, out, parts)
                quickest = min(quickest, time.perf_counter() - begun)
            iterations = torch.tensor([min(max(int(budget / max(quickest, 1e-7)), 7), 20000)])
            dist.broadcast(iterations, 0)
            times, last = [], time.perf_counter()
            begun = last
            for _ in range(int(iterations)):
                once(whole, share, out, parts)
                now = time.perf_counter()
                times.append(now - last)
                last = now
            if name == "sendrecv" and rank:
                times = [0.0] * len(times)
            slowest = torch.tensor(times, dtype=torch.float64)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            if rank == 0:
                micros = sorted(slowest.mul(0.5e6 if name == "sendrecv" else 1e6).tolist())
                mean = (last - begun) / len(times) * (0.5e6 if name == "sendrecv" else 1e6)
                median, p99 = micros[len(micros) // 2], micros[int((len(micros) - 1) * 0.99)]
                print(f"torch-gloo,tcp,{name},{size},{ranks},{median:.3f},{p99:.3f},,f32,{mean:.3f},{len(times)}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    world, budget = int(sys.argv[1]), float(sys.argv[3])
    listed = [int(size) for size in sys.argv[2].split(",")]
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    mp.spawn(run, (world, listed, budget, number), nprocs=world)
