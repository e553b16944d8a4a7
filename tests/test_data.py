"""Data: what comes in is checked, what is drawn is the same on every backend, and what is on a device stays there."""

import gzip
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import NAMES, STATE, assert_close

import xpnet
from xpnet import data
from xpnet.data import arguments, batches, check_finite, check_labels, files, minmax, one_hot, split, splits, standardize


def host(backend, batch):
    return tuple(backend.host(a) for a in batch) if isinstance(batch, tuple) else backend.host(batch)


def samples(n=10, d=3):
    """x whose first column is the sample's number, and t, the number again."""
    return np.arange(n * d, dtype="float32").reshape(n, d) // d, np.arange(n)


# Batches: arrays


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("size, lengths", [(4, [4, 4, 2]), (5, [5, 5]), (1, [1] * 10), (None, [10]), (99, [10])])
def test_every_sample_comes_once_with_its_target(backend, size, lengths, seed):
    x, t = samples()
    made = batches((backend.asarray(x), backend.asarray(t)), size, seed=seed)
    got = list(made)
    assert len(made) == len(got) == len(lengths)
    for bx, bt in got:
        assert_close(bx, backend.host(bt)[:, None] * np.ones(3), backend, dtype="float32")
        assert backend.backend.owns(bt)
    assert [b[1].shape[0] for b in got] == lengths
    order = np.concatenate([backend.host(b[1]) for b in got])
    np.testing.assert_array_equal(np.sort(order), t)
    assert (order.tolist() == t.tolist()) == (seed is None or lengths == [10])


def test_batches_are_the_same_on_every_backend(backend):
    """The numbers are written down: they are part of what a seed means."""
    made = batches(backend.asarray(np.arange(6)), 4, seed=3)
    epochs = [[host(backend, b).tolist() for b in made] for _ in range(2)]
    assert epochs == [[[5, 0, 2, 4], [1, 3]], [[1, 4, 2, 3], [0, 5]]]
    assert epochs[1] == [host(backend, b).tolist() for b in batches(backend.asarray(np.arange(6)), 4, seed=3, epoch=1)]


def test_each_run_is_the_next_epoch():
    made = batches(np.arange(50), 50 - 1, seed=0)
    first, second = (np.concatenate(list(made)) for _ in range(2))
    assert made.epoch == 2 and first.tolist() != second.tolist()
    made.epoch = 0
    next(iter(made))                                      # an epoch that is broken off counts
    np.testing.assert_array_equal(np.concatenate(list(made)), second)
    interleaved = zip(batches(np.arange(50), 7, seed=0), batches(np.arange(50), 7, seed=1))
    np.testing.assert_array_equal(np.concatenate([a for a, _ in interleaved]),
                                  np.concatenate(list(batches(np.arange(50), 7, seed=0))))


def test_an_array_gives_arrays_and_tuples_give_tuples(backend):
    x, t = samples()
    x, t, w = backend.asarray(x), backend.asarray(t), backend.asarray(t, "float32")
    assert backend.backend.owns(next(iter(batches(x, 4))))
    assert len(next(iter(batches((x, t, w), 4, seed=0)))) == 3
    (pair, target), = batches(((x, w), t), None)          # a network of two inputs
    assert pair[0].shape == (10, 3) and pair[1].shape == target.shape == (10,)
    for (a, b), c in batches(((x, w), t), 3, seed=0):
        np.testing.assert_array_equal(backend.host(a)[:, 0], backend.host(c))
        np.testing.assert_array_equal(backend.host(b), backend.host(c))


def test_drop_last(backend):
    made = batches(backend.asarray(np.arange(10)), 4, seed=0, drop_last=True)
    assert [b.shape[0] for b in made] == [4, 4] and len(made) == 2
    assert [b.shape[0] for b in batches(backend.asarray(np.arange(8)), 4, drop_last=True)] == [4, 4]


def test_unshuffled_batches_on_the_host_are_views():
    x, t = samples()
    for bx, bt in [*batches((x, t), 4), *batches((x, t), None, seed=0)]:
        assert np.shares_memory(bx, x) and np.shares_memory(bt, t)


def test_host_arrays_are_brought_to_the_backend(backend):
    x, t = samples()
    for given in (backend.backend, NAMES[backend.name]):
        for bx, bt in batches((x, t), 4, seed=0, backend=given):
            assert_close(bx, backend.host(bt)[:, None] * np.ones(3), backend, dtype="float32")
            assert backend.backend.owns(bt)


def counted(backend, monkeypatch, free):
    """The shapes of what is moved to the device; `free` bytes are said to be left on it."""
    moved = []
    asarray = type(backend.backend).asarray

    def note(self, x, dtype=None):
        if not self.owns(x):
            moved.append(tuple(x.shape))
        return asarray(self, x, dtype)

    monkeypatch.setattr(type(backend.backend), "asarray", note)
    monkeypatch.setattr(type(backend.backend), "free_memory", lambda self: float(free))
    return moved


def test_what_fits_is_moved_once(backend, monkeypatch):
    if backend.name.startswith("numpy"):
        pytest.skip("the host is the device")
    x, t = samples()
    moved = counted(backend, monkeypatch, free=2 * (x.nbytes + t.nbytes))
    made = batches((x, t), 4, seed=0, backend=backend.backend)
    assert moved == [(10, 3), (10,)]
    for _ in range(2):
        list(made)
    assert moved[2:] == [(10,), (10,)]                    # an order for each epoch, and nothing for a batch


def test_what_does_not_fit_is_moved_batch_by_batch(backend, monkeypatch):
    if backend.name.startswith("numpy"):
        pytest.skip("the host is the device")
    x, t = samples()
    moved = counted(backend, monkeypatch, free=2 * (x.nbytes + t.nbytes) - 1)
    expected = [host(backend, b) for b in batches((backend.asarray(x), backend.asarray(t)), 4, seed=0)]
    moved.clear()
    got = list(batches((x, t), 4, seed=0, backend=backend.backend))
    assert sorted(moved) == sorted([(10,), (4, 3), (4,), (4, 3), (4,), (2, 3), (2,)])
    for (bx, bt), (ex, et) in zip(got, expected):
        assert_close(bx, ex, backend)
        assert_close(bt, et, backend)


def test_memory_mapped_arrays_stay_on_the_disk(backend, tmp_path, monkeypatch):
    x, t = samples(40)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    moved = counted(backend, monkeypatch, free=1e12)
    for seed in (None, 0):
        got = list(batches((mapped, t), 16, seed=seed, backend=backend.backend))
        for bx, bt in got:
            assert type(bx) is not np.memmap
            assert_close(bx, backend.host(bt)[:, None] * np.ones(3), backend, dtype="float32")
        assert sum(b[0].shape[0] for b in got) == 40
    assert (40, 3) not in moved
    if backend.name == "numpy":
        assert np.shares_memory(next(iter(batches(mapped, 16))), mapped)


def test_batches_of_device_arrays_do_not_wait_for_it(no_sync):
    x, t = samples()
    device = no_sync.Device("device1")
    made = batches((no_sync.asarray(x, device=device), no_sync.asarray(t, device=device)), 4, seed=0)
    assert [b[0].shape[0] for b in made] == [4, 4, 2]


def test_an_epoch_on_cupy_uploads_its_order_and_copies_nothing_back():
    cuda = pytest.importorskip("cuda_on_cpu", reason="counts copies; needs the emulated device")
    if STATE["cupy"] is not None:
        pytest.skip("no device")
    x, t = (xpnet.get_backend("cupy").asarray(a) for a in samples(64))
    made = batches((x, t), 8, seed=0)
    list(made)                                            # compiles
    cuda.reset()
    assert len(list(made)) == 8
    counts = cuda.counters()
    assert counts["h2d_copies"] == 1
    assert counts["kernel_launches"] == 2 * 8             # a gather for each array of each batch
    assert counts["d2h_copies"] == counts["stream_syncs"] == counts["device_syncs"] == 0


def test_a_step_of_a_model_takes_a_batch(backend):
    """The five-line loop, on toy data."""
    x, t = data.moons(64)
    model = backend.model(xpnet.Sequential(xpnet.Dense(2, 4, "tanh"), xpnet.Dense(4, 2)))
    loss, optimizer = xpnet.SoftmaxCrossEntropy(), xpnet.SGD(0.1)
    for bx, bt in batches((x.astype("float32"), t), 16, seed=0, backend=model.backend):
        y, backward = model.forward(bx)
        _, dy = loss(y, bt)
        optimizer.step(model, backward(dy))
    assert model.step == 4


# Batches: ready ones


def test_ready_batches_are_passed_on(backend):
    x, t = (backend.asarray(a) for a in samples(4))
    ready = [(x, t), [x, t]]                              # a torch DataLoader gives lists
    made = batches(ready, 99, seed=0)
    assert len(made) == 2
    for _ in range(2):
        got = list(made)
        assert all(type(b) is tuple and b[0] is x and b[1] is t for b in got)
    assert [b is x for b in batches(iter([x, x]))] == [True, True]


def test_ready_batches_are_brought_to_the_backend(backend):
    x, t = samples(4)
    for bx, bt in batches([(x, t)] * 2, backend=backend.backend):
        assert_close(bx, x, backend)
        assert_close(bt, t, backend)


def test_a_generator_runs_out():
    made = batches(x for x in [np.zeros(2)])
    assert len(list(made)) == 1
    with pytest.raises(ValueError, match="generator can be run through once only"):
        list(made)
    with pytest.raises(TypeError):
        len(made)


# Batches: what they are not given

a10, a9 = np.zeros((10, 2)), np.zeros(9)


class Frame:
    """As pandas: iterable, with a shape, and no array."""
    shape, ndim, dtype, iloc = (3,), 1, None, None

    def __iter__(self):
        return iter("abc")


@pytest.mark.parametrize("make, error, match", [
    (lambda: batches(np.zeros((0, 3))), ValueError, r"no samples \(shape \(0, 3\)\)"),
    (lambda: batches(()), ValueError, "empty tuple"),
    (lambda: batches((a10, a9)), ValueError, r"different lengths, 10, 9 \(shapes \(10, 2\), \(9,\)\)"),
    (lambda: batches((a10, np.float64(1.0))), ValueError, "0-d"),
    (lambda: batches(np.array(3.0)), ValueError, "0-d"),
    (lambda: batches((a10, [0] * 10)), TypeError, "got list; make it an array"),
    (lambda: batches(3), TypeError, "got int"),
    (lambda: batches(None), TypeError, "got NoneType"),
    (lambda: batches(Frame()), TypeError, "test_data.Frame; make it an array"),
    (lambda: batches((Frame(), Frame())), TypeError, "test_data.Frame; make it an array"),
    (lambda: batches(a10, 0), ValueError, "batch_size is an integer from 1 on, got 0"),
    (lambda: batches(a10, -3), ValueError, "from 1 on"),
    (lambda: batches(a10, 2.0), TypeError, "batch_size is an integer, got 2.0"),
    (lambda: batches(a10, True), TypeError, "batch_size is an integer, got True"),
    (lambda: batches(a10, "32"), TypeError, "batch_size is an integer, got '32'"),
    (lambda: batches(a10, seed=-1), ValueError, "seed"),
    (lambda: batches(a10, seed=0.5), TypeError, "seed"),
    (lambda: batches(a10, epoch=-1), ValueError, "epoch"),
    (lambda: batches(a10, 11, drop_last=True), ValueError, "leaves nothing of 10 samples"),
    (lambda: batches(a10, backend="nunpy"), ValueError, "did you mean 'numpy'"),
    (lambda: list(batches([])), ValueError, "no batches"),
    (lambda: list(batches([(a10, a9)])), ValueError, "batch 0: the arrays are of different lengths"),
    (lambda: list(batches([a10, a10[:0]])), ValueError, "batch 1: there are no samples"),
    (lambda: list(batches([a10, a9])), ValueError, "give a tuple"),
    (lambda: list(batches([(a10, a10), a10])), ValueError, "rank"),
    (lambda: list(batches("abc")), TypeError, "batch 0: .* got str"),
    (lambda: list(batches([[1, 2], [3, 4]])), TypeError, "batch 0: .* got int"),
])
def test_bad_batches(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_batches_of_two_backends(backend):
    if backend.name.startswith("numpy"):
        pytest.skip("the other one is NumPy")
    x = backend.asarray(np.zeros((9, 2)))
    for make in (lambda: batches((x, a9)), lambda: batches((a9, x)), lambda: batches(x, backend="numpy"),
                 lambda: list(batches([x], backend="numpy"))):
        with pytest.raises(TypeError, match="expected arrays of backend"):
            make()
    assert all(backend.backend.owns(a) for a in next(iter(batches((x, a9.astype("float32")), backend=backend.backend))))


# Splits


def test_split(backend):
    x, t = samples(50)
    x_train, x_test, t_train, t_test = split(backend.asarray(x), backend.asarray(t))
    for bx, bt, n in ((x_train, t_train, 40), (x_test, t_test, 10)):
        assert_close(bx, backend.host(bt)[:, None] * np.ones(3), backend, dtype="float32")
        assert bt.shape == (n,)
    both = np.concatenate([backend.host(t_train), backend.host(t_test)])
    np.testing.assert_array_equal(np.sort(both), t)
    for side in (t_train, t_test):
        assert (np.diff(backend.host(side)) < 0).any()    # in random order
    np.testing.assert_array_equal(backend.host(t_test), split(t)[1])   # the same samples on every backend
    assert split(t, seed=1)[1].tolist() != split(t)[1].tolist()


@pytest.mark.parametrize("test, n", [(0.2, 10), (0.21, 11), (0.07, 4), (7, 7), (np.int64(7), 7), (0.999, None),
                                     (0, None), (50, None), (1.0, None), (0.0, None), (True, None), ("0.2", None),
                                     (float("nan"), None)])
def test_size_of_the_test_side(test, n):
    if n is None:
        with pytest.raises(ValueError, match="one side empty|between 0 and 1"):
            split(np.arange(50), test=test)
    else:
        assert split(np.arange(50), test=test)[1].shape == (n,)
    assert split(np.arange(100), test=0.07)[1].shape == (7,)   # 0.07 · 100 is a little more than 7 in floating point


def test_stratified_split_keeps_the_proportions(backend):
    t = np.repeat([5, -1, 7], [50, 30, 20])
    train, test = split(backend.asarray(t), stratify=backend.asarray(t))
    for side, total in ((train, 80), (test, 20)):
        labels, counts = np.unique(backend.host(side), return_counts=True)
        assert labels.tolist() == [-1, 5, 7]
        np.testing.assert_array_equal(counts, np.array([30, 50, 20]) * total // 100)


@pytest.mark.parametrize("sizes, total, expected", [
    ([5, 3, 2], 5, [3, 1, 1]),                            # quotas 2.5 1.5 1: the tie goes to the first
    ([10, 10, 10], 4, [2, 1, 1]),
    ([5, 4], 4, [2, 2]),                                  # quotas 2.2 1.8
    ([96, 2, 2], 10, [8, 1, 1]),                          # quotas 9.6 .2 .2: the small ones are on both sides
    ([36, 60, 2, 2], 10, [3, 5, 1, 1]),                   # quotas 3.6 6 .2 .2: the smallest remainder makes room
    ([2, 2, 2], 3, [1, 1, 1]),
    ([94, 4, 2], 80, [76, 3, 1]),                         # quotas 75.2 3.2 1.6: one of the last stays in training
    ([9, 1], 5, [5, 0]),                                  # a single sample is trained on
    ([7], 3, [3]),
])
def test_quotas(sizes, total, expected):
    got = splits._quotas(np.array(sizes), total)
    assert got.tolist() == expected


def test_stratified_split_that_cannot_be():
    t = np.arange(10) // 2
    with pytest.raises(ValueError, match="cannot keep 5 classes on both sides: it takes 5 to 5"):
        split(t, test=0.2, stratify=t)
    with pytest.raises(ValueError, match=r"labels of shape \(10,\)"):
        split(t, stratify=t[:9])
    with pytest.raises(ValueError, match="different lengths"):
        split(t, t[:9])
    with pytest.raises(ValueError, match="empty tuple"):
        split()


# Scaling and encoding


def raw(seed=0, n=200):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 4)) * [1.0, 10.0, 0.01, 3.0] + [0.0, 1000.0, -2.0, 5.0]


def test_standardize(backend, dtype):
    train, other = raw().astype(dtype), raw(1, 7).astype(dtype)
    got, got_other = standardize(backend.asarray(train), backend.asarray(other))
    mean, std = train.astype("float64").mean(0), train.astype("float64").std(0)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    assert_close(got, (train - mean) / std, backend, dtype=dtype, **tolerance)
    assert_close(got_other, (other - mean) / std, backend, dtype=dtype, **tolerance)
    assert_close(standardize(backend.asarray(train)), backend.host(got), backend, dtype=dtype)


def test_minmax(backend, dtype):
    train, other = raw().astype(dtype), raw(1, 7).astype(dtype)
    got, got_other = minmax(backend.asarray(train), backend.asarray(other))
    low, high = train.min(0), train.max(0)
    assert_close(got, (train - low) / (high - low), backend, dtype=dtype)
    assert_close(got_other, (other - low) / (high - low), backend, dtype=dtype)
    assert backend.host(got).min() == 0.0 and backend.host(got).max() == 1.0


def test_float32_mean_is_held_to_rounding():
    """One pass over 60,000 rows leaves a mean, and a deviation, that are wrong in their fourth digit."""
    x = np.tile(np.array([[0.1, 5.2], [0.3, 5.4]], dtype="float32"), (30000, 1))
    fitted = data.Standardizer().fit(x)
    exact = x.astype("float64")
    np.testing.assert_allclose(fitted.shift, exact.mean(0), rtol=3e-7)
    np.testing.assert_allclose(fitted.scale, exact.std(0), rtol=3e-6)
    assert abs(x.mean(0) / exact.mean(0) - 1).max() > 1e-4


@pytest.mark.parametrize("scaler", [data.Standardizer, data.MinMax])
def test_constant_features_become_0(backend, dtype, scaler):
    """0.1 has no exact mean over 60,000 rows of float32, so its computed variance is not 0."""
    n = 60000 if dtype == "float32" else 1000
    x = np.stack([np.full(n, 0.1), np.linspace(0, 1000, n), np.zeros(n)], axis=1).astype(dtype)
    fitted = scaler().fit(backend.asarray(x))
    z = backend.host(fitted.transform(backend.asarray(x)))
    np.testing.assert_array_equal(z[:, [0, 2]], 0.0)
    assert z[:, 1].std() > 0.2
    np.testing.assert_allclose(backend.host(fitted.inverse(backend.asarray(z))), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scaler", [data.Standardizer, data.MinMax])
def test_a_fitted_scaler_serves_other_devices_and_goes_back(backend, scaler):
    x = raw().astype(backend.widest)
    fitted = scaler().fit(x)                              # on the host
    z = fitted.transform(backend.asarray(x, "float32"))
    assert_close(z, fitted.transform(x), backend, dtype="float32", rtol=1e-2, atol=1e-4)
    assert_close(fitted.inverse(z), x, backend, dtype="float32", rtol=1e-4, atol=1e-4)
    images = backend.asarray(np.random.default_rng(0).random((5, 1, 2, 2)))
    assert scaler().fit(images).transform(images).shape == (5, 1, 2, 2)
    column = backend.asarray(np.arange(5.0))
    assert scaler().fit(column).transform(column).shape == (5,)


def test_bad_scaling(backend):
    x = backend.asarray(raw())
    with pytest.raises(TypeError, match="floating numbers, got .*uint8"):
        standardize(backend.asarray(np.zeros((3, 2)), "uint8"))
    with pytest.raises(ValueError, match="call fit"):
        data.MinMax().transform(x)
    with pytest.raises(ValueError, match=r"samples of shape \(4,\), got an array of shape \(200, 3\)"):
        minmax(x, x[:, :3])
    with pytest.raises(ValueError, match="no samples"):
        standardize(x[:0, :])


def test_one_hot(backend, dtype):
    labels = np.array([[0, 2], [1, 0]])
    expected = np.eye(4)[labels]
    assert_close(one_hot(backend.asarray(labels), 4, dtype), expected, backend, dtype=dtype)
    assert_close(one_hot(backend.asarray(labels, "uint8"), dtype=dtype), expected[..., :3], backend, dtype=dtype)
    assert_close(one_hot(backend.asarray(labels, "uint8"), 300), np.eye(300)[labels], backend, dtype="float32")


def test_bad_one_hot(backend):
    labels = np.array([0, 3, -1])
    with pytest.raises(TypeError, match="integer labels"):
        one_hot(backend.asarray(labels, "float32"))
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        one_hot(backend.asarray(labels[:2]), 4, "flaot32")
    with pytest.raises(TypeError, match="classes is an integer"):
        one_hot(backend.asarray(labels), 4.0)
    if backend.name.startswith("numpy"):
        with pytest.raises(ValueError, match="index 1"):
            one_hot(labels, 3)
        with pytest.raises(ValueError, match="from -1 to 3"):
            one_hot(labels)


# Checks of values


def test_check_finite(backend):
    x = np.zeros((3 * 2 ** 10, 2 ** 10), dtype="float16")   # three blocks, and faults in the second and third
    check_finite("x", backend.asarray(np.zeros((2, 3))))
    x[2000, 7] = np.nan
    x[2500, 0] = -np.inf
    with pytest.raises(ValueError, match=r"^x has 2 values that are not finite; the first is nan at index \(2000, 7\)"):
        check_finite("x", x)
    with pytest.raises(ValueError, match=r"^w has 1 value that is not finite; the first is inf at index 1\."):
        check_finite("w", backend.asarray(np.array([0.0, np.inf])))
    with pytest.raises(ValueError, match=r"^x\[1\] has 1 value"):
        check_finite("x", (x[:3], x[2500:2501]))
    for fine in (np.arange(3), np.array([True]), np.zeros((0, 3)), np.array(1.0)):
        check_finite("t", fine)
    for wrong in (np.array(["a"]), np.array([None]), np.zeros(2, complex)):
        with pytest.raises(TypeError, match="t has dtype .*; real numbers"):
            check_finite("t", wrong)


@pytest.mark.parametrize("t, error, match", [
    ([0, 1, 3, 3], ValueError, r"run from 0 to 3, but 3 classes .* 0 to 2; .* outside is 3 at index 2 \(2 in all\)"),
    ([[0, 1], [-1, 0]], ValueError, r"first outside is -1 at index \(1, 0\) \(1 in all\)"),
    ([2, 2, 2], ValueError, r"targets contain one class only \(2\)"),
    ([0.0, 1.0], TypeError, "integer dtype, got float64; convert"),
    ([0.0, 1.5], ValueError, "got 1.5 at index 1"),
    ([0.0, np.nan], ValueError, "got nan at index 1"),
    ([True, False], TypeError, "got bool"),
    (["a", "b"], TypeError, "integer dtype"),
])
def test_check_labels(t, error, match):
    with pytest.raises(error, match=match):
        check_labels(np.array(t), 3)


def test_check_labels_passes_what_is_right(backend):
    check_labels(backend.asarray(np.array([0, 2, 1])), 3)
    check_labels(np.array([0, 2], dtype="uint8"), 3)
    check_labels(np.array([2, 2]), 3, one_class=True)
    with pytest.raises(ValueError, match="empty"):
        check_labels(np.zeros(0, dtype=int), 3)


# Toy data


def test_xor():
    x, t = data.xor()
    assert (x.shape, t.shape, x.dtype, t.dtype) == ((4, 2), (4, 1), np.float64, np.float64)
    np.testing.assert_array_equal(t[:, 0], x[:, 0] != x[:, 1])


def test_toy_data_lies_where_its_formula_says():
    x, t = data.circles(31, noise=0.0)
    np.testing.assert_allclose(np.hypot(*x.T), np.where(t == 0, 1.0, 0.5))
    x, t = data.moons(31, noise=0.0)
    upper = np.where(t[:, None] == 0, x, [1.0, 0.5] - x)
    np.testing.assert_allclose(np.hypot(*upper.T), 1.0)
    assert np.all(upper[:, 1] >= 0.0)
    x, t = data.spirals(31, arms=3, noise=0.0)
    r = np.hypot(*x.T)
    turn = np.angle(np.exp(1j * (np.arctan2(x[:, 1], x[:, 0]) - 2 * np.pi * (r + t / 3))))
    np.testing.assert_allclose(turn, 0.0, atol=1e-12)
    assert r.min() >= 0.1 and r.max() <= 1.0 and set(t.tolist()) == {0, 1, 2}
    x, t = data.sine(31, noise=0.0)
    np.testing.assert_allclose(t, np.sin(x))
    assert np.abs(x).max() <= np.pi


@pytest.mark.parametrize("make", [data.circles, data.moons, data.spirals, data.sine])
def test_toy_data(make):
    x, t = make(101, seed=5)
    again, other = make(101, seed=5), make(101, seed=6)
    np.testing.assert_array_equal(x, again[0])
    assert not np.array_equal(x, other[0])
    if make is data.sine:
        assert (x.shape, t.shape, t.dtype) == ((101, 1), (101, 1), np.float64)
    else:
        assert (x.shape, t.shape, t.dtype) == ((101, 2), (101,), np.int64)
        counts = np.bincount(t)
        assert counts.max() - counts.min() <= 1
    assert x.dtype == np.float64
    noise = make(4000, noise=0.5, seed=1)
    clean = make(4000, noise=0.0, seed=1)
    off = (noise[1] - clean[1]) if make is data.sine else (noise[0] - clean[0])
    assert off.std() == pytest.approx(0.5, rel=0.05)
    for wrong in ({"n": 0}, {"n": -1}, {"noise": -0.1}, {"noise": float("nan")}, {"seed": -1}):
        with pytest.raises(ValueError):
            make(**wrong)
    with pytest.raises(TypeError, match="n is an integer"):
        make(10.0)


def test_one_seed_for_data_and_weights_gives_unlike_numbers():
    """Else the noise of a data set would be the very numbers that the first layer starts from."""
    _, t = data.sine(100, noise=1.0, seed=0)
    drawn = arguments._rng(0, arguments._TOY).standard_normal(50)
    weights = xpnet.Dense(5, 10, init=lambda rng, shape: rng.standard_normal(shape)).initial_params(0)["W"]
    assert not np.isin(weights, drawn).any()
    assert t.std() > 0.5


# IDX


def idx(code, shape, values, magic=b"\x00\x00"):
    return magic + bytes([code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


@pytest.mark.parametrize("code, dtype", [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"),
                                         (0x0E, "f8")])
@pytest.mark.parametrize("zipped", [False, True])
def test_read_idx(tmp_path, code, dtype, zipped):
    values = np.array([[0, 1, 2], [100, 101, 127]], dtype=">" + dtype)
    raw = idx(code, (2, 3), values.tobytes())
    (tmp_path / "file").write_bytes(gzip.compress(raw, mtime=0) if zipped else raw)
    got = data.read_idx(tmp_path / "file")
    assert got.dtype == np.dtype(dtype) and got.dtype.isnative and got.flags.writeable
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("raw, match", [
    (idx(0x08, (2, 3), b"123456", magic=b"\x01\x00"), "not an IDX file: it starts with 01 00 08 02"),
    (idx(0x0A, (2, 3), b"123456"), "not an IDX file"),
    (b"", "starts with nothing"),
    (idx(0x08, (2, 3), b"12345"), r"cut off: shape \(2, 3\) of uint8 takes 6 bytes, the file has 5"),
    (idx(0x08, (2, 3), b"1234567"), "too long"),
    (idx(0x08, (2, 3), b"")[:9], "cut off within its header: 9 bytes of 12"),
    (gzip.compress(idx(0x08, (2, 3), b"123456"), mtime=0)[:-9], "damaged or cut-off gzip"),
    (b"\x1f\x8bnonsense", "damaged or cut-off gzip"),
    (gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "damaged or cut-off gzip"),
])
def test_bad_idx(tmp_path, raw, match):
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(ValueError, match=match):
        data.read_idx(tmp_path / "file")


# MNIST


def tiny_mnist(folder, zipped, n=(5, 3)):
    for part, count in zip(("train", "t10k"), n):
        images = np.arange(count * 6, dtype="u1").reshape(count, 2, 3)
        for name, array in (("images-idx3", images), ("labels-idx1", images[:, 0, 0] % 10)):
            raw = idx(0x08, array.shape, array.tobytes())
            (folder / f"{part}-{name}-ubyte{'.gz' * zipped}").write_bytes(gzip.compress(raw, mtime=0) if zipped else raw)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_from_a_folder(tmp_path, zipped):
    tiny_mnist(tmp_path, zipped)
    x, t, x_test, t_test = data.mnist(tmp_path)
    assert (x.shape, t.shape, x_test.shape, t_test.shape) == ((5, 6), (5,), (3, 6), (3,))
    assert (x.dtype, t.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(x, np.arange(30).reshape(5, 6))
    np.testing.assert_array_equal(t, [0, 6, 2, 8, 4])


def test_mnist_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train-images-idx3-ubyte.*mnist\(folder\).*xpnet\[examples\]"):
        data.mnist(tmp_path)
    tiny_mnist(tmp_path, False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(8, (2,), b"12"))
    with pytest.raises(ValueError, match=r"\(3, 2, 3\) of .* and \(2,\) of"):
        data.mnist(tmp_path)


def test_mnist_by_download(tmp_path, monkeypatch):
    tiny_mnist(tmp_path, True)
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        return str(tmp_path / fname)

    pooch = types.SimpleNamespace(retrieve=retrieve, os_cache=lambda name: tmp_path / name)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    assert data.mnist()[0].shape == (5, 6)
    assert len(asked) == 4 and all(h.startswith("md5:") and len(h) == 36 for _, h in asked)
    assert all(url.startswith("https://") and url.endswith("-ubyte.gz") for url, _ in asked)

    def offline(*args):
        raise ConnectionError("no route")

    pooch.retrieve = offline
    with pytest.raises(OSError, match=r"no route.*mnist\(folder\).*network"):
        data.mnist()
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pooch is not installed.*mnist\(folder\).*xpnet\[examples\]"):
        data.mnist()


def test_pooch_takes_what_it_is_given(tmp_path, monkeypatch):
    """The real pooch, with the files already in its cache: arguments and checksums, without a network."""
    pooch = pytest.importorskip("pooch")
    tiny_mnist(tmp_path, True)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path)
    monkeypatch.setattr(files, "_MNIST", {n: pooch.file_hash(str(tmp_path / f"{n}.gz"), alg="md5") for n in files._MNIST})
    assert data.mnist()[2].shape == (3, 6)


# CSV


def csv(tmp_path, text):
    pytest.importorskip("pandas")
    (tmp_path / "file.csv").write_text(text)
    return tmp_path / "file.csv"


CSV = "size,colour,weight,kind\n1,red,0.5,b\n2,blue,1.5,a\n3,red,2.5,b\n"


def test_read_csv(tmp_path):
    path = csv(tmp_path, CSV)
    x, t, names = data.read_csv(path, "kind", features=["weight", "size"])
    assert names == ["weight", "size"] and x.dtype == np.float64 and t.dtype == np.int64
    np.testing.assert_array_equal(x, [[0.5, 1], [1.5, 2], [2.5, 3]])
    np.testing.assert_array_equal(t, [1, 0, 1])
    x, t, names = data.read_csv(path, "weight", one_hot=True)
    assert names == ["size", "colour=blue", "colour=red", "kind=a", "kind=b"] and t.dtype == x.dtype == np.float64
    np.testing.assert_array_equal(x, [[1, 0, 1, 0, 1], [2, 1, 0, 1, 0], [3, 0, 1, 0, 1]])
    np.testing.assert_array_equal(t, [[0.5], [1.5], [2.5]])
    _, t, _ = data.read_csv(path, "size", features=["weight"])
    np.testing.assert_array_equal(t, [1, 2, 3])
    assert t.dtype == np.int64


def test_read_csv_takes_the_options_of_pandas(tmp_path):
    x, t, names = data.read_csv(csv(tmp_path, "1;2;True\n3;4;False\n"), 2, sep=";", header=None)
    assert names == ["0", "1"] and t.tolist() == [1, 0]
    np.testing.assert_array_equal(x, [[1, 2], [3, 4]])


@pytest.mark.parametrize("text, arguments, match", [
    (CSV, {"target": "sise"}, "unknown column 'sise'; did you mean 'size'"),
    (CSV, {"target": "kind", "features": ["wieght"]}, "did you mean 'weight'"),
    (CSV, {"target": "kind", "features": ["kind", "size"]}, "among the features"),
    (CSV, {"target": "weight"}, "text, not numbers, in 'colour', 'kind'; give one_hot=True"),
    ("a,b\n1,2\n,3\n", {"target": "b"}, "missing values: 1 in 'a'"),
    ("a,b\n1,2\n3,\n", {"target": "b"}, "missing values: 1 in 'b'"),
    ("a,b\n", {"target": "b"}, "0 rows"),
    ("b\n1\n", {"target": "b"}, "0 feature columns"),
])
def test_bad_csv(tmp_path, text, arguments, match):
    with pytest.raises(ValueError, match=match):
        data.read_csv(csv(tmp_path, text), **arguments)


# Real data


@pytest.mark.parametrize("name, shape, classes", [
    ("digits", (1797, 64), 10), ("iris", (150, 4), 3), ("wine", (178, 13), 3), ("breast_cancer", (569, 30), 2),
    ("diabetes", (442, 10), None)])
def test_load(name, shape, classes):
    pytest.importorskip("sklearn")
    x, t = data.load(name)
    assert x.shape == shape and x.dtype == np.float64
    if classes is None:
        assert t.shape == (shape[0], 1) and t.dtype == np.float64
    else:
        check_labels(t, classes)
        assert t.shape == shape[:1] and t.dtype == np.int64


def test_diabetes_gives_the_published_least_squares_line():
    """GROUND_TRUTH T10: scikit-learn's example, column BMI, the last 20 samples as test."""
    pytest.importorskip("sklearn")
    x, t = data.load("diabetes")
    x = x[:, 2:3]
    a = np.hstack([x[:-20], np.ones((len(x) - 20, 1))])
    slope, intercept = np.linalg.lstsq(a, t[:-20])[0][:, 0]
    assert slope == pytest.approx(938.2378612513521, rel=1e-12)
    assert intercept == pytest.approx(152.91886182616113, rel=1e-12)
    y = slope * x[-20:] + intercept
    assert float(xpnet.metrics.mse(y, t[-20:])) == pytest.approx(2548.07239872597, rel=1e-12)
    assert float(xpnet.metrics.r2(y, t[-20:])) == pytest.approx(0.47257544798, abs=5e-12)


def test_unknown_data_set():
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        data.load("digit")


@pytest.mark.parametrize("module, call", [("sklearn", lambda path: data.load("iris")),
                                          ("pandas", lambda path: data.read_csv(path, "b"))])
def test_a_missing_package_is_named_with_its_extra(module, call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'xpnet\[examples\]'"):
        call(tmp_path / "file.csv")


def test_import_stays_light():
    """The two modules by themselves import no heavy package, nor numpy.random, which takes longer than all of xpnet."""
    code = f"""
import numpy, sys, types
package = types.ModuleType("xpnet")
package.__path__ = {list(xpnet.__path__)!r}
sys.modules["xpnet"] = package
import xpnet.data, xpnet.metrics
heavy = ("pandas", "sklearn", "scipy", "pooch", "matplotlib", "tqdm", "numpy.random", "array_api_compat")
print([m for m in heavy if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
