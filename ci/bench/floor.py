"""The floor of a workload: the FLOPs of its matrix products over the measured rate of such products, plus the bytes that have to be moved
over the measured bandwidth. No implementation on this machine's BLAS can be much faster; what is above it can still be won.
"""

import json
import os
import subprocess
import sys

PRODUCTS = ("matmul", "tensordot", "vecdot")
MEASURE = """
import json
from xpnet.profiling import bandwidth, gemm_rate
print(json.dumps({"gemm": gemm_rate(), "bytes": bandwidth()}))
"""


def rates(threads):
    """FLOP/s of a large product and bytes/s of a large copy, as `profile` measures them, in a process with so many threads."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return json.loads(subprocess.run([sys.executable, "-c", MEASURE], env=environment, capture_output=True, text=True, check=True).stdout)


def seconds(w, rates):
    """Products as the dry run counts them. Bytes: parameters, gradients and the optimizer's vectors read and written once by a step, and
    each layer's output written and read once in each direction."""
    from peers.stock import network

    from xpnet import Model, Sequential

    model = Model(Sequential(*network(w)[0]), backend="numpy")
    shape, dtype = {"dense": (w.sizes[:1], None), "cnn": ((1, 28, 28), None), "lstm": ((50, 32), None),
                    "transformer": ((64,), "int64")}[w.kind]
    flops = outputs = 0
    for row in model.summary(shape, w.batch, dtype).rows:
        for op in row.forward + (row.backward if w.train else []):
            flops += op.flops if op.name in PRODUCTS else 0
        size = 1
        for n in row.output_shape:
            size *= n
        outputs += size
    vectors = {"sgd": 3, "momentum": 5, "adam": 7}["adam" if w.kind == "transformer" else w.optimizer] if w.train else 1
    return flops / rates["gemm"] + 4 * (vectors * model.layout.size + (4 if w.train else 2) * outputs) / rates["bytes"]
