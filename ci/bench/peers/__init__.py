"""The peers: `NAMES[name]` is the module and the options of its `make(workload, x, t, weights, threads, **options) -> step`.

step(i) makes training step i, or the forward pass for a workload without training, and returns the loss; `read` of a peer's module, where
there is one, makes a number of it.
"""

NAMES = {
    "xpnet": ("stock", {}),
    "xpnet numba": ("stock", {}),
    "torch": ("torch_eager", {}),
    "torch fused": ("torch_eager", {"fused": True}),
    "torch flush": ("torch_eager", {"flush": True}),
    "torch compile": ("torch_eager", {"compiled": True}),
    "jax": ("jax_jit", {}),
    "scikit-learn": ("sklearn_mlp", {}),
    "thinc": ("thinc_chain", {}),
    "autograd": ("autograd_hips", {}),
}
ENVIRONMENT = {"xpnet": {"XPNET_NUMBA": "0"}, "xpnet numba": {"XPNET_NUMBA": "1"}}
NEEDS = {"stock": "xpnet", "torch_eager": "torch", "jax_jit": "jax", "sklearn_mlp": "sklearn", "thinc_chain": "thinc",
         "autograd_hips": "autograd"}
NOTES = {"xpnet": "with NumPy alone", "xpnet numba": "xpnet where numba is installed too",
         "torch fused": "PyTorch with its fused optimizer", "torch flush": "PyTorch with denormals flushed to 0",
         "torch compile": "torch.compile of the network and the loss", "jax": "JAX, the whole step under jit",
         "scikit-learn": "MLPClassifier and MLPRegressor, 16 steps a call of partial_fit"}
