"""Torch's side of tests/tests/torch_store.rs.

    torch_store.py client HOST PORT    does every operation against a store that is there
    torch_store.py serve HOST 0        serves a store, prints its port, ends when stdin ends
    torch_store.py workers HOST 0      as serve, and waits for two workers before it prints `joined`
    torch_store.py gloo HOST PORT      two ranks meet over the store and make an all_reduce
    torch_store.py file PATH read|write
    torch_store.py legacy HOST 0       as serve, with the older backend
"""

import datetime
import os
import sys

import torch.distributed as dist

TIMEOUT = datetime.timedelta(seconds=20)
SHORT = datetime.timedelta(milliseconds=200)


def connect(host, port, use_libuv=True):
    return dist.TCPStore(host, port, None, False, timeout=TIMEOUT, wait_for_workers=False, use_libuv=use_libuv)


def expect(got, wanted, what):
    assert got == wanted, f"{what}: got {got!r}, wanted {wanted!r}"


def fails(call, text, what):
    try:
        call()
    except Exception as error:  # the classes differ between versions
        assert text in str(error), f"{what}: {error}"
    else:
        raise AssertionError(f"{what}: no error")


def client(host, port):
    for use_libuv in (True, False):
        operations(connect(host, port, use_libuv), connect(host, port, use_libuv), use_libuv)
    print("ok", flush=True)


def operations(s, other, has_all):
    for key in ("k", "e", "n", "c", "m1", "m2"):
        s.delete_key(key)
    s.set("k", "v")
    expect(s.get("k"), b"v", "get")
    s.set("e", "")
    expect(s.get("e"), b"", "get of an empty value")
    expect(s.add("n", 5), 5, "add")
    expect(s.add("n", -7), -2, "add")
    expect(s.get("n"), b"-2", "get of a number")
    expect(s.compare_set("c", "exp", "z"), b"exp", "compare_set of a missing key")
    expect(s.compare_set("c", "", "x"), b"x", "compare_set")
    expect(s.compare_set("c", "x", "y"), b"y", "compare_set")
    expect(s.compare_set("c", "no", "z"), b"y", "compare_set")
    expect(s.check(["k", "n"]), True, "check")
    expect(s.check(["k", "zz"]), False, "check")
    s.wait(["k", "n"])
    fails(lambda: s.wait(["zz"], SHORT), "wait timeout", "wait")
    expect(s.num_keys(), len([k for k in ("k", "e", "n", "c")]), "num_keys")
    s.append("k", "w")
    expect(s.get("k"), b"vw", "append")
    s.multi_set(["m1", "m2"], ["1", "22"])
    expect(s.multi_get(["m2", "m1"]), [b"22", b"1"], "multi_get")
    expect((s.delete_key("e"), s.delete_key("e")), (True, False), "delete_key")
    big = bytes(range(256)) * 32768
    s.set("big", big)
    expect(s.get("big") == big, True, "a value of 8 MiB")
    s.delete_key("big")
    # The client of the older backend refuses these itself.
    if has_all and hasattr(s, "queue_push"):
        s.queue_push("q", "1")
        s.queue_push("q", "2")
        expect(s.queue_len("q"), 2, "queue_len")
        expect((s.queue_pop("q"), s.queue_pop("q")), (b"1", b"2"), "queue_pop")
        fails(lambda: s.queue_pop("q", False), "empty", "queue_pop of an empty queue")
    if has_all and hasattr(s, "list_keys"):
        expect(sorted(s.list_keys()), ["c", "k", "m1", "m2", "n"], "list_keys")
    if has_all and hasattr(s, "barrier"):
        s.barrier(f"b{os.getpid()}-{id(s)}", 1)
        s.delete_key(f"b{os.getpid()}-{id(s)}")
    prefixed = dist.PrefixStore("outer", dist.PrefixStore("inner", s))
    prefixed.set("k", "p")
    expect(s.get("inner/outer/k"), b"p", "prefix")
    s.delete_key("inner/outer/k")
    # What one client writes wakes another that waits.
    import threading

    found = []
    waiter = threading.Thread(target=lambda: found.append(other.get("late")))
    waiter.start()
    s.set("late", "now")
    waiter.join(20)
    expect(found, [b"now"], "a waiting client")
    s.delete_key("late")


def serve(host, mode):
    workers = 2 if mode == "workers" else None
    kwargs = {"use_libuv": False} if mode == "legacy" else {}
    if mode == "workers":
        # The port has to be known before the workers come, and the constructor waits for them.
        import socket

        listener = socket.create_server((host, 0))
        port = listener.getsockname()[1]
        print(port, flush=True)
        store = dist.TCPStore(host, port, workers, True, timeout=TIMEOUT, wait_for_workers=True, master_listen_fd=listener.detach())
        print("joined", flush=True)
    else:
        store = dist.TCPStore(host, 0, None, True, timeout=TIMEOUT, wait_for_workers=False, **kwargs)
        print(store.port, flush=True)
    for line in sys.stdin:
        # `set KEY VALUE` from the other side, to wake one of its waits.
        command, key, value = line.split()
        assert command == "set"
        store.set(key, value)


def gloo(host, port):
    import torch

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    child = os.fork()
    rank = 1 if child == 0 else 0
    store = connect(host, port)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=TIMEOUT)
    ones = torch.ones(4) * (rank + 1)
    dist.all_reduce(ones)
    expect(ones.tolist(), [3.0] * 4, "all_reduce")
    dist.barrier()
    dist.destroy_process_group()
    if child == 0:
        os._exit(0)
    expect(os.waitpid(child, 0)[1], 0, "the other rank")
    print("ok", flush=True)


def file(path, what):
    store = dist.FileStore(path, -1)
    store.set_timeout(TIMEOUT)
    if what == "write":
        store.set("torch", "v")
        store.set("gone", "x")
        store.delete_key("gone")
        expect(store.add("n", 3), 3, "add")
    else:
        expect(store.get("rust"), b"w", "get")
        expect(store.add("n", 1), 11, "add to what the other side has added")
        expect(store.check(["deleted"]), False, "a deleted key")
    print("ok", flush=True)


def main():
    mode, first, second = sys.argv[1:4]
    if mode == "client":
        client(first, int(second))
    elif mode == "gloo":
        gloo(first, int(second))
    elif mode == "file":
        file(first, second)
    else:
        serve(first, mode)


main()
