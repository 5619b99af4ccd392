"""The Python side of the example `meet_torch`, which starts it: PORT WORLD_SIZE."""

import datetime
import sys

try:
    import torch.distributed as dist
except ImportError:
    print("no torch", flush=True)
    sys.exit(0)

port, world_size = int(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)

timeout = datetime.timedelta(seconds=60)
store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=timeout)
store.wait([f"rust/{rank}" for rank in range(world_size)], timeout)
numbers = [store.get(f"rust/{rank}").decode() for rank in range(world_size)]
print(f"torch read {' and '.join(numbers)} from {world_size} Rust ranks", flush=True)
store.add("came", 1)
store.set("torch", "42")
