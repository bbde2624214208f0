"""Milliseconds of MPI's own collectives on arrays of float32, as mpi4py calls them; see bench/collectives.ts.

  mpiexec -n 2 python bench/peers/mpi_collectives.py BYTES,BYTES...

The first rank prints them as JSON.
"""
import json
import sys
import time

import numpy as np
from mpi4py import MPI

SECONDS, LEAST_CALLS = 0.5, 5
world = MPI.COMM_WORLD


def time_of(call):
    times = []
    call()
    while True:
        world.Barrier()
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
        enough = sum(times) > 1000 * SECONDS and len(times) >= LEAST_CALLS
        if world.bcast(enough):
            return min(times)


def measure(size):
    own = (np.arange(size // 4) % 7).astype(np.float32)
    part, other = own[: size // 4 // world.size].copy(), np.empty_like(own)
    return {
        "all-reduce": time_of(lambda: world.Allreduce(own, other)),
        "all-to-all": time_of(lambda: world.Alltoall(own, other)),
        "all-gather": time_of(lambda: world.Allgather(part, other)),
    }


all_times = [measure(int(size)) for size in sys.argv[1].split(",")]
if world.rank == 0:
    print(json.dumps(all_times))
