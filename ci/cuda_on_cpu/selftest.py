"""Compares CuPy on the emulated device with NumPy. Prints 'N passed, M failed'.

    run VENV_DIR -- python selftest.py [-v]
"""
import os
import subprocess
import sys
import traceback

import cuda_on_cpu
import numpy as np

cuda_on_cpu.enable()
import cupy as cp  # noqa: E402

VERBOSE = "-v" in sys.argv
FLOATS = ["float16", "float32", "float64"]
INTS = ["int8", "uint8", "int32", "uint32", "int64", "uint64"]
TOL = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-12, "complex64": 2e-5}
passed, failed = 0, []


def check(name, fn):
    global passed
    try:
        fn()
        passed += 1
        if VERBOSE:
            print("ok  ", name)
    except Exception as e:
        failed.append(name)
        print("FAIL", name, "-", type(e).__name__, str(e).strip().splitlines()[:3])
        if VERBOSE:
            traceback.print_exc()


def to_np(x):
    return x.get() if isinstance(x, cp.ndarray) else x


def same(got, want, tol=None):
    if isinstance(want, (tuple, list)):
        assert len(got) == len(want)
        for g, w in zip(got, want):
            same(g, w, tol)
        return
    got, want = np.asarray(to_np(got)), np.asarray(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    assert got.dtype == want.dtype, (got.dtype, want.dtype)
    if want.dtype.kind in "fc":
        t = tol or TOL.get(str(want.dtype), 1e-12)
        np.testing.assert_allclose(got.astype("c16" if want.dtype.kind == "c" else "f8"),
                                   want.astype("c16" if want.dtype.kind == "c" else "f8"), rtol=t, atol=t)
    else:
        np.testing.assert_array_equal(got, want)


def data(dtype, shape, seed=0):
    r = np.random.default_rng(seed)
    dt = np.dtype(dtype)
    if dt.kind == "b":
        return r.integers(0, 2, shape).astype(bool)
    if dt.kind == "f":
        return r.uniform(-2, 2, shape).astype(dt)
    if dt.kind == "c":
        return (r.uniform(-2, 2, shape) + 1j * r.uniform(-2, 2, shape)).astype(dt)
    return r.integers(0 if dt.kind == "u" else -9, 10, shape).astype(dt)


def compare(name, f, *arrays, tol=None):
    """f(xp, *arrays) must give the same with numpy and with cupy."""
    def run():
        with np.errstate(all="ignore"):
            want = f(np, *[a.copy() for a in arrays])
        same(f(cp, *[cp.asarray(a) for a in arrays]), want, tol)
    check(name, run)


# ---- elementwise
UNARY_F = ("exp expm1 log log1p sqrt square sin cos tan arctan tanh sinh cosh abs negative sign floor ceil trunc rint"
           " isnan isinf isfinite log2 log10 exp2 reciprocal cbrt signbit arcsinh").split()
BINARY = "add subtract multiply maximum minimum less less_equal greater greater_equal equal not_equal".split()
for dt in FLOATS:
    for op in UNARY_F:
        x = data(dt, (3, 5))
        compare(f"{op} {dt}", lambda xp, a, op=op: getattr(xp, op)(a), np.abs(x) + np.asarray(0.25, dt) if op.startswith("log") or op == "sqrt" else x)
    for op in "divide power arctan2 fmod floor_divide remainder hypot logaddexp copysign fmax nextafter".split():
        x, y = data(dt, (3, 5)), np.abs(data(dt, (3, 5), 1)) + np.asarray(0.5, dt)
        compare(f"{op} {dt}", lambda xp, a, b, op=op: getattr(xp, op)(a, b), np.abs(x) if op == "power" else x, y, tol=8e-3 if dt == "float16" else None)
for dt in INTS:
    for op in "floor_divide remainder power left_shift right_shift bitwise_and bitwise_or bitwise_xor".split():
        compare(f"{op} {dt}", lambda xp, a, b, op=op: getattr(xp, op)(a, b), data(dt, (3, 5)), np.abs(data(dt, (3, 5), 1)) % np.asarray(3, dt) + np.asarray(1, dt))
    compare(f"invert {dt}", lambda xp, a: ~a, data(dt, (7,)))
for dt in FLOATS + INTS:
    for op in BINARY:
        compare(f"{op} {dt}", lambda xp, a, b, op=op: getattr(xp, op)(a, b), data(dt, (4, 1, 3)), data(dt, (5, 3), 1))
    compare(f"where {dt}", lambda xp, a, b: xp.where(a > b, a, b), data(dt, (4, 3)), data(dt, (3,), 1))
    compare(f"clip {dt}", lambda xp, a: xp.clip(a, 1, 2), data(dt, (4, 3)))
    for to in ("float16", "float32", "float64", "int32", "int64", "bool"):
        compare(f"cast {dt}->{to}", lambda xp, a, to=to: a.astype(to), data(dt, (5, 4)))
for op in "logical_and logical_or logical_xor".split():
    compare(op, lambda xp, a, b, op=op: getattr(xp, op)(a, b), data("bool", (9,)), data("bool", (9,), 1))
compare("broadcast mix", lambda xp, a, b: (a + 2) * b - 1.5, data("float32", (4, 1)), data("float32", (1, 6), 1))
compare("int/float scalar", lambda xp, a: (a / 2, a * 3, 1 - a, a**2, 7 // (a * a + 1)), data("int32", (6,)))


def inplace(xp, a):
    a = a.copy()
    a += 1
    a *= a
    a[1] -= 3
    a[:, ::2] = 7
    a[a > 20] = 0
    return a


# ---- reductions, scans, sorting
for dt in FLOATS + INTS:
    compare(f"inplace {dt}", inplace, data(dt, (4, 5)))
    x = data(dt, (4, 70, 3))
    for ax in (None, 0, 1, 2, (0, 2), -1):
        for op in ("sum", "max", "min", "mean", "argmax", "argmin"):
            if isinstance(ax, tuple) and op.startswith("arg"):
                continue
            compare(f"{op} axis={ax} {dt}", lambda xp, a, op=op, ax=ax: getattr(a, op)(axis=ax), x, tol=2e-2 if dt == "float16" else 2e-4 if dt == "float32" else None)
    compare(f"sum keepdims {dt}", lambda xp, a: xp.sum(a, axis=1, keepdims=True), x, tol=2e-2 if dt == "float16" else 2e-4 if dt == "float32" else None)
    compare(f"cumsum {dt}", lambda xp, a: xp.cumsum(a), data(dt, (600,)) // 2 if dt in INTS else data("float64", (600,)).astype(dt) if dt != "float16" else data(dt, (40,)), tol=2e-2 if dt == "float16" else 1e-3 if dt == "float32" else 1e-10)
    compare(f"sort {dt}", lambda xp, a: (xp.sort(a), xp.argsort(a, axis=-1, kind="stable")), data(dt, (5, 9)))
    compare(f"unique {dt}", lambda xp, a: xp.unique(a), data(dt, (50,)))
    compare(f"any/all {dt}", lambda xp, a: (xp.any(a), xp.all(a, axis=0), xp.count_nonzero(a)), data(dt, (5, 9)))
for dt in FLOATS[1:]:
    x = data(dt, (6, 50))
    for op in ("var", "std", "prod", "nansum", "nanmax", "ptp"):
        compare(f"{op} {dt}", lambda xp, a, op=op: getattr(xp, op)(a, axis=1), x * np.asarray(0.9, dt), tol=1e-4 if dt == "float32" else 1e-10)
    compare(f"norm {dt}", lambda xp, a: xp.linalg.norm(a, axis=1), x)
    compare(f"softmax {dt}", lambda xp, a: xp.exp(a - a.max(1, keepdims=True)) / xp.exp(a - a.max(1, keepdims=True)).sum(1, keepdims=True), x)
    compare(f"cumprod {dt}", lambda xp, a: xp.cumprod(a, axis=1), x[:, :7])
    compare(f"histogram/bincount/searchsorted {dt}", lambda xp, a: xp.searchsorted(xp.sort(a[0]), a[1]), x)
compare("bincount", lambda xp, a: xp.bincount(a), np.abs(data("int64", (40,))))
compare("large sum", lambda xp, a: a.sum(), np.arange(100000, dtype="int64"))
compare("large 2-d sum", lambda xp, a: (a.sum(0), a.sum(1)), np.arange(120000, dtype="int64").reshape(300, 400))

# ---- matrix products
SHAPES = [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 6)), ((40, 33), (33, 37)), ((1, 1), (1, 1)), ((3, 0), (0, 2))]
for dt in FLOATS + ["int32", "int64", "complex64"]:
    for sa, sb in SHAPES:
        compare(f"matmul {sa}@{sb} {dt}", lambda xp, a, b: xp.matmul(a, b), data(dt, sa), data(dt, sb, 1), tol=5e-2 if dt == "float16" else 5e-5 if dt in ("float32", "complex64") else None)
    compare(f"matmul transposed {dt}", lambda xp, a, b: (a.T @ b, (b.T @ a)[::2], a[::2].T @ b[::2]), data(dt, (6, 4)), data(dt, (6, 5), 1), tol=3e-2 if dt == "float16" else None)
    compare(f"tensordot/outer/inner {dt}", lambda xp, a, b: (xp.tensordot(a, b, axes=([1], [0])), xp.outer(a[0], b[:, 0]), xp.dot(a, b)), data(dt, (3, 4)), data(dt, (4, 5), 1), tol=3e-2 if dt == "float16" else None)
compare("einsum", lambda xp, a, b: xp.einsum("bij,bjk->bik", a, b), data("float32", (2, 3, 4)), data("float32", (2, 4, 5), 1))
compare("vdot complex", lambda xp, a, b: xp.vdot(a, b), data("complex64", (9,)), data("complex64", (9,), 1))

# ---- shapes and indexing
for dt in ["float16", "float32", "int64", "bool"]:
    x, idx = data(dt, (4, 5, 3)), np.array([[0, 3], [2, 2]])
    compare(f"take {dt}", lambda xp, a, i: (xp.take(a, i, axis=1), xp.take(a, i[0], axis=0), a[i], a[:, i[0], 1]), x, idx)
    compare(f"slices {dt}", lambda xp, a: (a[1:3, ::-1], a[..., 0], a[:, None, 2:, :], a[-1, -2, -3]), x)
    compare(f"concat/stack {dt}", lambda xp, a: (xp.concatenate([a, a[:2]], axis=0), xp.stack([a, a], axis=1), xp.vstack([a[0], a[1]]), xp.hstack([a[0], a[1]])), x)
    compare(f"permute {dt}", lambda xp, a: (xp.transpose(a, (2, 0, 1)).copy(), xp.moveaxis(a, 0, 2).copy(), a.T.reshape(-1), xp.swapaxes(a, 0, 1).copy()), x)
    compare(f"flip/roll/tile/repeat {dt}", lambda xp, a: (xp.flip(a, 1), xp.roll(a, 2, axis=0), xp.tile(a, (1, 2, 1)), xp.repeat(a, 3, axis=2)), x)
    compare(f"pad/expand/squeeze {dt}", lambda xp, a: (xp.pad(a, ((0, 1), (1, 0), (2, 2))), xp.expand_dims(a, 1), xp.squeeze(a[:, :1], 1)), x)
    compare(f"boolean mask {dt}", lambda xp, a: (a[a.astype(bool)], xp.nonzero(a)), x)
    compare(f"put/scatter {dt}", lambda xp, a, i: (a.__setitem__(i[:, 0], a[:2]), a)[1], x, idx)
    compare(f"take_along_axis {dt}", lambda xp, a, i: xp.take_along_axis(a[0], i, axis=1), x, np.array([[0, 1], [2, 0], [1, 1], [0, 2], [2, 2]]))
    compare(f"creation {dt}", lambda xp, dt=dt: (xp.zeros((2, 3), dt), xp.ones((2,), dt), xp.full((2, 2), 1, dt), xp.eye(3, dtype=dt)))
    compare(f"tril/triu/diag {dt}", lambda xp, a: (xp.tril(a[0]), xp.triu(a[0], 1), xp.diag(a[0, 0])), x)
compare("arange/linspace/meshgrid", lambda xp: (xp.arange(3, 10, 2), xp.arange(0, 1, 0.25), xp.linspace(0, 1, 7), *xp.meshgrid(xp.arange(3), xp.arange(2))))


def scatter_add(xp, a, i):
    a = a.copy()
    xp.add.at(a, i, 1)
    return a


compare("add.at", scatter_add, data("float32", (6,)), np.array([1, 1, 3, 5, 1]))

# ---- kernels written by hand
raw = r'''
extern "C" __global__ void block_sum(const float* x, float* y, int n) {
  __shared__ float s[128];
  int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  s[t] = i < n ? x[i] : 0;
  __syncthreads();
  for (int k = blockDim.x / 2; k; k >>= 1) { if (t < k) s[t] += s[t + k]; __syncthreads(); }
  if (t == 0) atomicAdd(y, s[0]);
}
extern "C" __global__ void warp_sum(const int* x, int* y) {
  int v = x[threadIdx.x];
  for (int k = 16; k; k >>= 1) v += __shfl_down_sync(0xffffffffu, v, k);
  unsigned odd = __ballot_sync(0xffffffffu, x[threadIdx.x] & 1);
  if (threadIdx.x % 32 == 0) { y[threadIdx.x / 32] = v; y[2 + threadIdx.x / 32] = __popc(odd); }
}
extern "C" __global__ void reverse(double* x, int n) {
  extern __shared__ double buf[];
  buf[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = buf[n - 1 - threadIdx.x];
}
__constant__ float scale;
extern "C" __global__ void grid2d(float* a, int w, int h) {
  int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= w || y >= h) return;
  a[y * w + x] = y * 100 + x;
}
template <typename T> __global__ void twice(T* x) { x[threadIdx.x] *= 2; }
'''


def raw_kernels():
    m = cp.RawModule(code=raw, options=("-std=c++17",), name_expressions=["twice<int>", "twice<double>"])
    x = data("float32", (1000,))
    y = cp.zeros(1, "f4")
    m.get_function("block_sum")((8,), (128,), (cp.asarray(x), y, np.int32(1000)))
    same(y, np.array([x.sum()], "f4"), 1e-4)
    i = data("int32", (64,))
    o = cp.zeros(4, "i4")
    m.get_function("warp_sum")((1,), (64,), (cp.asarray(i), o))
    same(o, np.concatenate([i.reshape(2, 32).sum(1), (i.reshape(2, 32) & 1).sum(1)]).astype("i4"))
    d = cp.arange(200.0)
    m.get_function("reverse")((1,), (200,), (d, np.int32(200)), shared_mem=1600)
    same(d, np.arange(200.0)[::-1])
    g = cp.zeros((5, 37), "f4")
    m.get_function("grid2d")((3, 2), (16, 4), (g, np.int32(37), np.int32(5)))
    same(g, (np.arange(5)[:, None] * 100 + np.arange(37)).astype("f4"))
    for t in ("int", "double"):
        z = cp.arange(9, dtype="i4" if t == "int" else "f8")
        m.get_function(f"twice<{t}>")((1,), (9,), (z,))
        same(z, np.arange(9, dtype=z.dtype) * 2)


def elementwise_kernel():
    k = cp.ElementwiseKernel("T x, T y, raw T w", "T z, bool b", "if (x < y) { z = x * w[0]; } else { z = y + i; } b = x < y;", "k")
    x, y = data("float32", (3, 4)), data("float32", (3, 4), 1)
    z, b = k(cp.asarray(x), cp.asarray(y), cp.asarray([2], "f4"))
    same(z, np.where(x < y, x * 2, y + np.arange(12).reshape(3, 4).astype("f4")).astype("f4"))
    same(b, x < y)


def reduction_kernel():
    k = cp.ReductionKernel("T x, T y", "T z", "x * y", "a + b", "z = sqrt(a)", "0", "l2")
    x = np.abs(data("float64", (7, 300)))
    same(k(cp.asarray(x), cp.asarray(x), axis=1), np.linalg.norm(x, axis=1))


def fused():
    @cp.fuse()
    def f(x, y):
        return cp.maximum(x * y + 1, 0) - y

    @cp.fuse()
    def g(x):
        return cp.sum(cp.exp(x), axis=1)
    x, y = data("float32", (5, 6)), data("float32", (5, 6), 1)
    same(f(cp.asarray(x), cp.asarray(y)), np.maximum(x * y + 1, 0) - y)
    same(g(cp.asarray(x)), np.exp(x).sum(1))


def jit_kernel():
    from cupyx import jit

    @jit.rawkernel()
    def k(x, y, n):
        t = jit.grid(1)
        if t < n:
            y[t] = x[t] * 2 + 1
    x = cp.arange(100, dtype="f4")
    y = cp.zeros_like(x)
    k[4, 32](x, y, np.int32(100))
    same(y, np.arange(100, dtype="f4") * 2 + 1)


for f in (raw_kernels, elementwise_kernel, reduction_kernel, fused, jit_kernel):
    check(f.__name__, f)


def compile_error():
    try:
        cp.RawKernel('extern "C" __global__ void k(int* x) { x[0] = nonsense; }', "k")((1,), (1,), (cp.zeros(1, "i4"),))
    except cp.cuda.compiler.CompileException as e:
        assert "nonsense" in str(e)
    else:
        raise AssertionError("no CompileException")


# ---- random numbers
def random_legacy():
    cp.random.seed(3)
    a = cp.random.rand(2000)
    cp.random.seed(3)
    assert (a == cp.random.rand(2000)).all() and 0 <= float(a.min()) and float(a.max()) <= 1 and abs(float(a.mean()) - 0.5) < 0.03
    n = cp.random.randn(4001, dtype="f4")
    assert abs(float(n.mean())) < 0.06 and abs(float(n.std()) - 1) < 0.05 and n.dtype == np.float32
    r = cp.random.randint(3, 9, size=500)
    assert set(np.unique(r.get())) == {3, 4, 5, 6, 7, 8}
    for k in (10, 1000):
        same(cp.sort(cp.random.permutation(k)), np.arange(k))
    assert abs(float(cp.random.uniform(-1, 3, 3000).mean()) - 1) < 0.1
    assert cp.random.choice(5, 100).max() <= 4
    x = cp.arange(50)
    cp.random.shuffle(x)
    same(cp.sort(x), np.arange(50))


def random_generator():
    for bg in (cp.random.XORWOW, cp.random.Philox4x3210, cp.random.MRG32k3a):
        g, h = cp.random.Generator(bg(7)), cp.random.Generator(bg(7))
        a, b, c = g.random(1000), h.random(1000), g.random(1000)
        same(a, b.get())
        assert not (a == c).any() and abs(float(a.mean()) - 0.5) < 0.05
        z = g.standard_normal(4000, dtype="f4")
        assert abs(float(z.mean())) < 0.07 and abs(float(z.std()) - 1) < 0.05
        i = g.integers(2, 6, size=300)
        assert set(np.unique(i.get())) == {2, 3, 4, 5}
        assert abs(float(g.exponential(2.0, 4000).mean()) - 2) < 0.2
        assert abs(float(g.gamma(3.0, 1.0, 4000).mean()) - 3) < 0.2
        assert abs(float(g.poisson(4.0, 4000).mean()) - 4) < 0.2
        assert abs(float(g.binomial(10, 0.3, 4000).mean()) - 3) < 0.2


# ---- memory, streams, events, graphs
def transfers():
    x = data("float32", (5, 7))
    d = cp.empty((5, 7), "f4")
    d.set(x)
    same(d, x)
    out = np.empty_like(x)
    d.get(out=out)
    same(out, x)
    p = cp.cuda.alloc_pinned_memory(x.nbytes)
    h = np.frombuffer(p, "f4", x.size).reshape(x.shape)
    s = cp.cuda.Stream(non_blocking=True)
    d.get(stream=s, out=h)
    s.synchronize()
    same(h, x)
    same(cp.asfortranarray(d), x)
    same(cp.asarray(x.T), x.T)
    try:
        np.asarray(d)
    except TypeError:
        pass
    else:
        raise AssertionError("implicit conversion to NumPy must fail")


def wrong_copy():
    h = np.zeros(4, "f4")
    try:
        cp.cuda.runtime.memcpy(h.ctypes.data, h.ctypes.data, 16, cp.cuda.runtime.memcpyHostToDevice)
    except cp.cuda.runtime.CUDARuntimeError:
        return
    raise AssertionError("copy to a host address as if it were the device's was accepted")


def out_of_memory():
    try:
        cp.empty(1 << 40, "u1")
    except cp.cuda.memory.OutOfMemoryError:
        return
    raise AssertionError("no OutOfMemoryError")


def streams():
    a, b = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream()
    e0, e1 = cp.cuda.Event(), cp.cuda.Event()
    with a:
        x = cp.arange(1000.0)
        e0.record(a)
        x = x * 2
        e1.record(a)
    b.wait_event(e1)
    with b:
        y = x + 1
    b.synchronize()
    assert a.done and e1.done and cp.cuda.get_elapsed_time(e0, e1) >= 0
    same(y, np.arange(1000.0) * 2 + 1)
    seen = []
    a.launch_host_func(seen.append, 5)
    a.synchronize()
    assert seen == [5]


def dlpack():
    x = cp.arange(6, dtype="f4").reshape(2, 3)
    y = cp.from_dlpack(x)
    y += 1
    same(x, np.arange(1, 7, dtype="f4").reshape(2, 3))
    assert x.__dlpack_device__()[0] == 2
    same(np.from_dlpack(x.__dlpack__(dl_device=(1, 0))) if False else cp.asnumpy(x), to_np(x))


def graphs():
    s = cp.cuda.Stream(non_blocking=True)
    x, w = cp.ones((4, 4), "f4"), cp.full((4, 4), 2, "f4")
    y = cp.empty_like(x)
    cp.cuda.Device().synchronize()  # s does not wait for the default stream
    with s:
        cp.add(x, 1, out=x), cp.multiply(x, w, out=y), cp.sum(x, axis=0)  # compile first
        x.fill(1)
        s.begin_capture()
        cp.add(x, 1, out=x)
        cp.multiply(x, w, out=y)
        z = cp.sum(x, axis=0)
        g = s.end_capture()
        same(x, np.ones((4, 4), "f4"))  # recorded, not run
        for _ in range(3):
            g.launch(s)
        s.synchronize()
        same(x, np.full((4, 4), 4, "f4"))
        same(y, np.full((4, 4), 8, "f4"))
        same(z, np.full(4, 16, "f4"))
        s.begin_capture()
        try:
            s.synchronize()
        except cp.cuda.runtime.CUDARuntimeError:
            pass
        else:
            raise AssertionError("synchronize during capture must fail")
        try:
            s.end_capture()
        except cp.cuda.runtime.CUDARuntimeError:
            pass


def counters():
    a, b = cp.ones((8, 8), "f4"), cp.ones((8, 8), "f4")
    (a + b) @ b
    cuda_on_cpu.reset()
    c = (a + b) @ b
    n = cuda_on_cpu.counters()
    assert (n["kernel_launches"], n["blas_calls"], n["d2h_copies"], n["h2d_copies"]) == (1, 1, 0, 0), n
    c.get()
    cp.asarray(np.zeros(10, "f4"))
    n = cuda_on_cpu.counters()
    assert (n["d2h_copies"], n["d2h_bytes"], n["h2d_copies"], n["h2d_bytes"]) == (1, 256, 1, 40), n
    assert n["stream_syncs"] >= 1


def unsupported():
    for name, f in {"svd": lambda: cp.linalg.svd(cp.ones((3, 3))), "fft": lambda: cp.fft.fft(cp.ones(4))}.items():
        try:
            f()
        except (ImportError, RuntimeError):
            continue
        raise AssertionError(name + " did not fail")


def array_api():
    try:
        import array_api_compat
    except ImportError:
        return
    x = cp.asarray(data("float32", (3, 4)))
    xp = array_api_compat.array_namespace(x)
    h = to_np(x)
    same(xp.sum(x), h.sum(), 1e-5)
    same(xp.mean(x, axis=1), h.mean(1))
    same(xp.matmul(x, xp.permute_dims(x, (1, 0))), h @ h.T)
    same(xp.take(x, xp.asarray([2, 0]), axis=1), h[:, [2, 0]])
    same(xp.astype(x, xp.int32), h.astype("i4"))
    same(xp.concat([x, x]), np.concatenate([h, h]))
    same(xp.argmax(x, axis=0), h.argmax(0))
    same(xp.std(x), h.std())
    assert array_api_compat.device(x) is not None and array_api_compat.size(x) == 12


def subprocess_fails(code, word):
    def f():
        pre = "import cuda_on_cpu; cuda_on_cpu.enable()\nimport cupy as cp, numpy as np\n"
        r = subprocess.run([sys.executable, "-c", pre + code], capture_output=True, text=True)
        assert r.returncode == 1 and word in r.stderr, r.stderr
    return f


def deferred():
    code = '''import cuda_on_cpu; cuda_on_cpu.enable()
import cupy as cp, numpy as np
p = cp.cuda.alloc_pinned_memory(4000); h = np.frombuffer(p, "f4", 1000); h[:] = 1
a, b = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
x = cp.zeros(1000, "f4"); cp.cuda.Device().synchronize()
x.data.copy_from_host_async(h.ctypes.data, 4000, a); e = a.record()
h[:] = 5                      # too early: the copy has not run yet
with b: y = x + 1             # no wait: sees the old contents
b.synchronize(); assert float(y.get()[0]) == 1, y[0]
with b: b.wait_event(e); y = x + 1
b.synchronize(); assert float(y.get()[0]) == 6, y[0]
'''
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "CUDA_ON_CPU_ASYNC": "1"})
    assert r.returncode == 0, r.stderr


for f in (compile_error, random_legacy, random_generator, transfers, wrong_copy, out_of_memory, streams, dlpack, graphs, counters, unsupported, array_api, deferred):
    check(f.__name__, f)
check("illegal address", subprocess_fails('k = cp.RawKernel(\'extern "C" __global__ void k(int* x) { x[threadIdx.x + (1ll << 40)] = 1; }\', "k")\n'
                                          'k((1,), (1,), (cp.zeros(1, "i4"),)); cp.cuda.Device().synchronize()', "an illegal memory access was encountered"))
check("barrier mismatch", subprocess_fails('k = cp.RawKernel(\'extern "C" __global__ void k() { if (threadIdx.x == 0) while (1) __syncwarp(3); else __syncthreads(); }\', "k")\n'
                                           'k((1,), (64,), ()); cp.cuda.Device().synchronize()', "unspecified launch failure"))

if cuda_on_cpu.last_unsupported():
    print("note: last call that is not emulated:", cuda_on_cpu.last_unsupported())
print(f"{passed} passed, {len(failed)} failed")
sys.exit(bool(failed))
