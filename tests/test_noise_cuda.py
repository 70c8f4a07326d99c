"""The CUDA noise kernel without a GPU: run on the CPU from its source, compiled for every architecture."""

import ctypes
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from noise_cases import IDS, KNOWN_ANSWERS

from loomfast import _engine, noise_from_ids
from loomfast.noise import reference

ROOT = Path(__file__).parents[1]
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
TABLE = json.loads((ROOT / "tests" / "noise_cuda_resources.json").read_text())
MOST_INSTRUCTIONS = 275  # with nvcc 13.0: 248 to 271. Keys added up cost 18, a division of 64 bits 39
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
NVCC = shutil.which("nvcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no nvcc here: install the CUDA toolkit")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The kernel as a host library, with the undefined behaviour that sanitizers see turned into a crash."""
    library = tmp_path_factory.mktemp("shim") / "noise_on_cpu.so"
    flags = "-std=c++17 -O2 -shared -fPIC -ffp-contract=off"
    flags += " -fsanitize=undefined -fsanitize-undefined-trap-on-error"
    source = ROOT / "tests" / "cuda_on_cpu" / "noise_on_cpu.cpp"
    subprocess.run([COMPILER, *flags.split(), f"-I{ROOT / 'csrc'}", source, "-o", library], check=True)
    return ctypes.CDLL(str(library))


def run(shim, ids, out, seed, word3, grid=3, threads=64, most_blocks=0):
    ids = np.ascontiguousarray(ids, np.int64)
    pointers = (ids.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
    sizes = (len(ids), out.shape[1], out.strides[0] // out.itemsize)
    numbers = [ctypes.c_int64(size) for size in sizes] + [ctypes.c_uint64(seed), ctypes.c_uint32(word3)]
    shape = (ctypes.c_uint(grid), ctypes.c_uint(threads), ctypes.c_uint32(most_blocks))
    shim.noise_on_cpu(*pointers, *numbers, out.itemsize, *shape)


@needs_compiler
@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_random123_known_answers(shim, counter, key, words):
    out = np.zeros(4, np.uint32)
    shim.philox_on_cpu(
        np.array(counter, np.uint32).ctypes.data_as(ctypes.c_void_p),
        ctypes.c_uint64(key[0] | key[1] << 32),
        out.ctypes.data_as(ctypes.c_void_p),
    )
    assert tuple(out) == words


@needs_compiler
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 64, 65, 1023])
@pytest.mark.parametrize("seed", [0, 2**64 - 1, 2**33 + 5])
def test_kernel_repeats_the_reference(shim, size, seed):
    expected = reference.noise_from_ids(IDS, (size,), seed=seed, domain=3)
    for dtype, want in [
        (np.float32, expected),
        (np.float64, expected.astype(np.float64)),
        (np.uint16, reference.to_bfloat16_bits(expected)),
    ]:
        for gap in (0, 1, 4):  # items at any stride: stores of four and of one
            wide = np.full((len(IDS), size + gap), 0x7FC1 if dtype == np.uint16 else np.nan, dtype)
            run(shim, IDS, wide[:, :size], seed, 3)
            assert wide[:, :size].tobytes() == want.tobytes()
            rest = wide[:, size:]
            assert (rest == 0x7FC1).all() if dtype == np.uint16 else np.isnan(rest).all()


@needs_compiler
def test_a_hundred_thousand_normals(shim):
    ids = np.random.default_rng(0).integers(-(2**63), 2**63, 34)
    out = np.full((34, 3072), np.nan, np.float32)
    run(shim, ids, out, 2**63, 1, grid=7, threads=256)
    assert out.size > 100_000
    assert out.tobytes() == reference.noise_from_ids(ids, (3072,), seed=2**63, domain=1).tobytes()


@needs_compiler
@pytest.mark.parametrize("size", [1, 4, 22, 64])
@pytest.mark.parametrize("most_blocks", [1, 2, 3, 7, 16, 40])
def test_noise_of_more_blocks_than_a_launch_numbers_is_made_in_parts(shim, size, most_blocks):
    """A launch numbers its blocks in 32 bits; here in as few as make parts of items and of an item."""
    expected = reference.noise_from_ids(IDS, (size,), seed=5, domain=1)
    wide = np.full((len(IDS), size + 3), np.nan, np.float32)
    run(shim, IDS, wide[:, :size], 5, 1, most_blocks=most_blocks)
    assert wide[:, :size].tobytes() == expected.tobytes()
    assert np.isnan(wide[:, size:]).all()


@needs_compiler
@pytest.mark.parametrize("by", [1, 2, 3, 5, 768, 2**16 + 1, 2**30 - 1, 2**30, 2**30 + 1, 2**31 - 1])
def test_divisions_are_products_and_shifts(shim, by):
    shim.quotient_on_cpu.restype = ctypes.c_uint32
    edges = [k * by + e for k in (0, 1, 2, 3, (2**31 - 1) // by) for e in (-1, 0, 1)]
    random = np.random.default_rng(by).integers(0, 2**31, 500).tolist()
    for n in [n for n in edges if 0 <= n < 2**31] + random + [2**31 - 1]:
        assert shim.quotient_on_cpu(ctypes.c_uint32(n), ctypes.c_uint32(by)) == n // by


def compile_cuda(tmp_path, architecture):
    """PTX and resources of noise.cu, every warning an error, no spills allowed."""
    flags = "-std=c++17 -O3 -Werror all-warnings -Xptxas -v,-warn-spills,-warn-lmem-usage"
    code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    source, cubin, ptx = ROOT / "csrc/noise/noise.cu", tmp_path / "noise.cubin", tmp_path / "noise.ptx"
    include = f"-I{ROOT / 'csrc'}"
    command = [NVCC, *flags.split(), code, include, "-cubin", source, "-o", cubin]
    report = subprocess.run(command, capture_output=True, text=True)
    assert report.returncode == 0, report.stderr
    assert "warning" not in report.stderr
    subprocess.run(
        [NVCC, "-std=c++17", "-O3", f"-arch=compute_{architecture}", include, "-ptx", source, "-o", ptx],
        check=True,
    )
    return ptx.read_text(), report.stderr


@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiles_without_spills_or_inexact_operations(tmp_path, architecture):
    ptx, report = compile_cuda(tmp_path, architecture)
    assert re.findall(r"(\d+) bytes spill", report).count("0") == 6
    registers = sorted(int(count) for count in re.findall(r"Used (\d+) registers", report))
    version = re.search(
        r"V(\d+\.\d+)", subprocess.run([NVCC, "--version"], capture_output=True, text=True).stdout
    )
    if version[1] == TABLE["nvcc"]:
        assert registers == TABLE["registers"][str(architecture)]
    floats = set(re.findall(r"^\s*(?:@\S+\s+)?([a-z][a-z0-9_.]*\.f32)", ptx, re.MULTILINE))
    arithmetic = {name for name in floats if not name.startswith(("mov", "ld", "st", "setp", "selp", "cvt"))}
    assert {"add.rn.f32", "mul.rn.f32", "sqrt.rn.f32"} <= arithmetic
    assert arithmetic <= {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "sqrt.rn.f32", "neg.f32"}
    assert not re.search(r"\bfma\.rn\.f|\.approx|\bex2\.|\blg2\.|\bsin\.|\bcos\.", ptx)


@needs_nvcc
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_four_normals_take_few_instructions(tmp_path, architecture):
    """All of the loop, stores of less than four and calls for denormal roots included: it bounds the rate."""
    triton = pytest.importorskip("triton", reason="triton brings cuobjdump")
    compile_cuda(tmp_path, architecture)
    command = [triton.knobs.nvidia.cuobjdump.path, "-sass", tmp_path / "noise.cubin"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kernels = listing.split("Function : ")[1:]
    assert len(kernels) == 3
    for kernel in kernels:
        lines = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,5})\*/ +(.*?);", kernel)]
        jumps = [(at, re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)) for at, text in lines]
        end, begin = next((at, int(to[1], 16)) for at, to in jumps if to and int(to[1], 16) < at)
        loop = [text for at, text in lines if begin <= at <= end]
        assert 150 < len(loop) <= MOST_INSTRUCTIONS
        assert not any("I2F" in text and "U64" in text for text in loop)  # how a 64-bit division begins


def test_the_launcher_gets_the_pointers_of_the_tensors(monkeypatch):
    """Without a GPU: what the operation hands to the engine, item stride, seed and stream included."""
    from contextlib import nullcontext

    from loomfast.noise.spec import noise_spec
    from loomfast.noise.torch_ops import _fill_cuda

    calls = []
    monkeypatch.setattr(_engine, "noise_fill_cuda", lambda *a: calls.append(a), raising=False)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=77))
    ids, out = torch.arange(5), torch.empty(5, 2, 3, 4, dtype=torch.bfloat16)[:, 0]
    _fill_cuda(ids, noise_spec(2**64 - 1, 3, "cuda", None), out)
    assert calls == [(ids.data_ptr(), 5, 12, 24, 2**64 - 1, 3, 2, out.data_ptr(), 77)]


@pytest.mark.gpu
@needs_gpu
def test_gpu_noise_has_the_cpu_bits():
    ids = torch.from_numpy(np.random.default_rng(0).integers(-(2**63), 2**63, 3000))
    for dtype in ("float32", "bfloat16", "float64"):
        expected = noise_from_ids(ids, (3, 32, 32), seed=7, dtype=dtype)
        assert torch.equal(
            noise_from_ids(ids.cuda(), (3, 32, 32), seed=7, dtype=dtype, backend="cuda").cpu(), expected
        )
