"""The cost of tensors on a GPU: a product of cuBLAS and one pass over it, or a fused product of Triton.

Nothing here waits for the device. Executed in the tests on CPU tensors, the kernels by Triton's interpreter.
"""

import torch

from loomfast.cost import cpu
from loomfast.kernels import cost as products
from loomfast.kernels import cost_passes as passes
from loomfast.kernels import cost_split as divided
from loomfast.noise.torch_ops import fill_noise, signed

WIDE = {torch.float64, torch.int32, torch.uint32}  # what float32 does not hold, and float64 does
UNCHECKED = {
    torch.int64,
    torch.uint64,
}  # what float64 may not hold: a look at the numbers would wait for them
_NAMES = {"float32": "ieee", "tf32": "tf32", "bfloat16": "bf16"}  # of Triton's precisions

# From so many numbers an item on, a product of cuBLAS and a pass over the costs take at most 1.15 of the
# product alone where neither fits into the second-level cache: 8 bytes a cost at 3.35 TB/s against 2 d
# operations at 50 (float32), 400 (tf32) and 600 (bfloat16) TFLOP/s. Below it a fused product moves less. An
# estimate of 2026-11 from the data sheet of an H100; not measured.
LEAST_DEPTH = {"ieee": 400, "tf32": 3200, "bf16": 4800}
# A fused product of fewer tiles leaves multiprocessors of an H100 idle. Where there are too many for a depth
# to be divided (cost_split), cuBLAS has tiles of more shapes.
LEAST_TILES = 132
NOISE_BYTES = 20 << 20  # of noise held at a time: it stays in the second-level cache (50 MB on an H100)
PRODUCT_ENTRIES = 1 << 22  # of a float64 product held at a time


def dtype_of(x_dtype, z_dtype, precision):
    """The dtype that the cost is computed in: as on the CPU, and bfloat16 where it is asked for.

    Raises TypeError for integers that float64 may not hold: on a GPU nobody looks at them.
    """
    for name, dtype in (("x", x_dtype), ("z", z_dtype)):
        if dtype in UNCHECKED:
            raise TypeError(
                f"{name} must hold floating-point numbers or 32-bit integers at most on a GPU, got {dtype}; "
                f"float64 may round it: pass {name}.double() where it does not"
            )
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "float64" or (precision is None and {x_dtype, z_dtype} & WIDE):
        return torch.float64
    return torch.float32


def fill(x, z, labels, spec, out):
    """The cost of x (n, d) and z (m, d) into float32 ``out`` (n, m) with contiguous rows.

    labels: two contiguous tensors or None. Computed in `dtype_of` the inputs and ``spec.precision``.
    """
    dtype = dtype_of(x.dtype, z.dtype, spec.precision)
    options = _options(labels, spec)
    if _direct(x, spec):
        dtype = torch.float32 if dtype is torch.bfloat16 else dtype  # differences are
        passes.direct(x.to(dtype), z.to(dtype), out, **options)
        return
    x, z = (_rows(part.to(dtype)) for part in (x, z))
    _fill_products(x, z, None, spec, out, options)


def fill_from_ids(x, ids, noise, labels, spec, out):
    """The same against the noise of int64 ids (m,), by which it is made: in the product, or in blocks.

    In the product every tile of rows of x makes its noise again: that pays where there is one such tile.
    """
    n, d = x.shape
    dtype, options = dtype_of(x.dtype, torch.float32, spec.precision), _options(labels, spec)
    direct = _direct(x, spec)
    if direct and dtype is torch.bfloat16:
        dtype = torch.float32  # differences are
    if not direct and dtype is not torch.float64:
        name = _NAMES[spec.precision or "float32"]
        tile = products.tile_for(products.capability(x), name, from_ids=True)
        if n <= tile.rows:
            drawn = {"seed": signed(noise.seed), "word3": noise.domain, "precision": name, "tile": tile}
            drawn["drop_norms"] = spec.drops_norms
            products.cost_from_ids(x.to(dtype), ids, out, **drawn, **options)
            return
    x = _rows(x.to(dtype))
    of_x = None if direct or _bare(spec, labels) else passes.norms(x, x[:0])
    for columns in cpu.row_blocks(len(ids), d * x.element_size(), NOISE_BYTES):
        z = torch.empty((columns.stop - columns.start, d), dtype=dtype, device=x.device)
        fill_noise(ids[columns], noise, z)
        options["labels"] = labels and (labels[0], labels[1][columns])
        if direct:
            passes.direct(x, z, out[:, columns], **options)
        else:
            _fill_products(x, z, of_x, spec, out[:, columns], options)


def _options(labels, spec):
    return {"metric": spec.metric, "labels": labels, "label_weight": spec.label_weight}


def _direct(x, spec):
    return x.shape[1] <= cpu.DIRECT_DIMENSIONS and not spec.drops_norms


def _rows(x):
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _bare(spec, labels):
    """Whether the cost is the product and nothing else."""
    return spec.drops_norms and labels is None


def _norms(x, z, of_x):
    return passes.norms(x, z) if of_x is None else torch.cat((of_x, passes.norms(z, z[:0])))


def _fill_products(x, z, of_x, spec, out, options):
    """The cost from products of x and z, which have the dtype that they are multiplied in.

    of_x: the norms of x if they are known; they are made where they are needed.
    """
    options = options | {"drop_norms": spec.drops_norms}
    if x.dtype is torch.float64:
        lengths = _norms(x, z, of_x)
        for rows in cpu.row_blocks(len(x), len(z), PRODUCT_ENTRIES):
            product = torch.mm(x[rows], z.T).mul_(-2)
            norms = torch.cat((lengths[: len(x)][rows], lengths[len(x) :]))
            part = options["labels"] and (options["labels"][0][rows], options["labels"][1])
            passes.finish(product, x[rows], z, norms, out[rows], **options | {"labels": part})
        return
    name = _NAMES[spec.precision or "float32"]
    bare = _bare(spec, options["labels"])
    if is_split(*out.shape, x, name) and not bare:
        divided.cost(x, z, out, precision=name, **options)
        return
    if not takes_cublas(*out.shape, x, name, bare):
        products.cost(x, z, out, precision=name, lengths=_norms(x, z, of_x), **options)
        return
    multiply(x, z, out)
    passes.finish(out, x, z, None if bare else _norms(x, z, of_x), out, repair=bare, **options)


def multiply(x, z, out):
    """-2 x z^T of float32 or bfloat16 rows into float32 ``out``, by the BLAS underneath torch."""
    if x.dtype is torch.float32:
        out.addmm_(x, z.T, beta=0, alpha=-2)  # beta = 0: what was there is not read
        return
    # Twice a number has its digits. addmm took a factor, but in some versions of torch no float32 to add to.
    x, z = (x * -2, z) if len(x) <= len(z) else (x, z * -2)
    if x.is_cuda:
        torch.mm(x, z.T, out_dtype=torch.float32, out=out)
    else:  # torch has no such product on the CPU
        torch.mm(x.float(), z.float().T, out=out)


def is_split(n, m, x, name):
    """Whether the depth of the product of x (n, d) with m rows is divided among the programs of Triton."""
    tile = products.tile_for(products.capability(x), name)
    return divided.parts_of(n, m, x.shape[1], tile)[0] > 1


def takes_cublas(n, m, x, name, bare):
    """Whether the product of x (n, d) with m rows, in Triton's precision ``name``, is cuBLAS's or Triton's.

    cuBLAS computes float32 as torch's switch for the whole process says, which is not ours to turn: Triton
    has a product for the other case, and for bfloat16 where torch's product is bfloat16, too (before 2.8).
    ``bare``: the cost is the product and nothing else.
    """
    if name == "bf16":
        if "dtype_out" not in torch.ops.aten.mm.overloads():
            return False
    elif matmul_precision() != name:
        return False
    if bare:
        return True  # nothing is left to fuse
    tile = products.tile_for(products.capability(x), name)
    tiles = -(-n // tile.rows) * -(-m // tile.columns)
    return tiles < LEAST_TILES or x.shape[1] >= LEAST_DEPTH[name]


def matmul_precision():
    """What torch multiplies float32 matrices in on a GPU: "ieee" or "tf32"."""
    switch = torch.backends.cuda.matmul
    if hasattr(switch, "fp32_precision"):  # since torch 2.9, where a look at the other may raise
        return "tf32" if switch.fp32_precision == "tf32" else "ieee"
    return "tf32" if switch.allow_tf32 else "ieee"
