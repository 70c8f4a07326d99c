"""Whatever a file holds: it is read, or refused in a line that names it, in memory that fits its size."""

import json
import re
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import torch
from damage import mutations
from PIL import Image
from untrained import POINTS, untrained_run

from loomfast.cli import main
from loomfast.cli.solve import load_matrix
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import Loom
from loomfast.coupling.row_store import RowStore
from loomfast.coupling.semidiscrete import read_duals
from loomfast.coupling.whole_dataset import solve_globally
from loomfast.data import load_dataset
from loomfast.data.files import load_cifar10
from loomfast.data.images import read_image
from loomfast.files import read_json, read_tensors, write_tensors
from loomfast.models import MLPConfig, UNet, UNetConfig
from loomfast.models.authors import load_authors_checkpoint
from loomfast.runs.directory import append_entry, load_model, read_log, truncate_log
from loomfast.runs.export import export_run, model_card, read_metrics
from loomfast.training.loop import train
from loomfast.training.state import TrainingState

COUNT = 500
CONSTANT = 64 << 20  # bytes that reading takes whatever the file's size
ITEMS = np.random.default_rng(0).standard_normal((24, 2, 3)).astype(np.float32)
PIXELS = np.random.default_rng(1).integers(256, size=(9, 9, 3), dtype=np.uint8)
TOY = TrainConfig(
    model=MLPConfig(dim=2, width=6, depth=1), data="moons", num_items=24, steps=2, batch_size=12, threads=1,
    coupling=CouplingConfig(num_caches=2),
)  # fmt: skip
AUTHORS = UNetConfig(2, 1, 8, 1, (1,), (), num_groups=4, num_head_channels=8)


def npy(folder):
    np.save(folder / "items.npy", ITEMS)
    return folder / "items.npy", load_dataset


def cost(folder):
    np.save(folder / "cost.npy", np.asfortranarray(ITEMS[0]))
    return folder / "cost.npy", load_matrix


def npz(folder):
    np.savez(folder / "items.npz", images=ITEMS, labels=np.arange(24))
    return folder / "items.npz", load_dataset


def npz_packed(folder):
    np.savez_compressed(folder / "a.npz", train=ITEMS, heldout=0 * ITEMS, train_labels=np.arange(24))
    return folder / "a.npz", load_dataset


def hdf5(folder):
    with h5py.File(folder / "items.h5", "w") as file:
        file["latents"], file["labels"] = ITEMS, np.arange(24)
        file["latents"].attrs["scale_factor"] = 0.5
    return folder / "items.h5", load_dataset


def hdf5_packed(folder):
    with h5py.File(folder / "items.h5", "w") as file:
        file.create_dataset("images", data=ITEMS, chunks=(5, 2, 3), compression="gzip", shuffle=True)
    return folder / "items.h5", load_dataset


def picture(suffix, **options):
    def make(folder):
        exif = Image.Exif()
        exif[0x0112] = 6
        if suffix in (".png", ".jpg"):
            options["exif"] = exif
        Image.fromarray(PIXELS).save(folder / f"a{suffix}", **options)
        return folder / f"a{suffix}", read_image

    return make


def cifar(folder):
    np.zeros((2, 3073), np.uint8).tofile(folder / "data_batch_1.bin")
    np.zeros((2, 3073), np.uint8).tofile(folder / "test_batch.bin")
    return folder / "data_batch_1.bin", lambda path: load_cifar10(path.parent)


def plain_json(folder):
    (folder / "a.json").write_text(json.dumps({"a": [1, 2.5, None, "é"], "b": {"c": True}}))
    return folder / "a.json", read_json


def tensors(folder):
    named = {"a": ITEMS, "b": np.arange(5), "c": torch.ones(3, dtype=torch.float16)}
    write_tensors(folder / "a.safetensors", named, {"note": "x"})
    return folder / "a.safetensors", read_tensors


def halves(folder):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(3, 2, dtype=torch.bfloat16)}, folder / "a.safetensors")
    return folder / "a.safetensors", read_tensors


def configuration(folder):
    run = untrained_run(folder / "run", POINTS, data="digits")
    return run / "config.json", lambda path: load_model(path.parent)


def weights(folder):
    run = untrained_run(folder / "run", POINTS, data="digits")
    return run / "model.safetensors", lambda path: load_model(path.parent)


def state(folder):
    train(TOY, folder / "run")
    run = TrainingState(TOY, load_dataset("moons", num_items=24))
    return folder / "run" / "state.safetensors", run.load


def log(folder):
    train(TOY, folder / "run")
    path = folder / "run" / "log.jsonl"

    def read(path):
        read_log(path, ("step", "swaps", "cost_after"))
        truncate_log(path, 1)

    return path, read


def metrics(folder):
    run = untrained_run(folder / "run", POINTS, data="digits")
    samples = [{"solver": "euler", "nfe": 1, "frechet": 3.5}, {"solver": "rk4", "nfe": 4, "frechet": None}]
    entry = {"data": "digits", "reference": "9 items", "num": 50, "seed": 3, "steps": 7, "curvature": 0.5}
    (run / "metrics.jsonl").write_text(2 * (json.dumps(entry | {"samples": samples}) + "\n"))
    config, model = load_model(run)
    return run / "metrics.jsonl", lambda path: model_card(config, model, metrics=read_metrics(path))


def coupling(folder):
    coupler = Loom(24, (2, 3), num_caches=1, dataset_fingerprint="f")
    solve_globally(coupler, ITEMS)
    coupler.save(folder / "a.safetensors")
    return folder / "a.safetensors", Loom(24, (2, 3), num_caches=1, dataset_fingerprint="f").load


def prices(folder):
    wanted = {"num_items": 24, "shape": (2, 3), "metric": "sqeuclidean", "dataset_fingerprint": "f"}
    return coupling(folder)[0], lambda path: read_duals(path, **wanted)


def unfinished(folder):
    def solve(path):
        coupler = Loom(192, (2, 3), num_caches=1)
        items = np.tile(ITEMS, (8, 1, 1))
        solve_globally(coupler, items, folder=path.parent, memory=400_000, max_sweeps=1)

    solve(folder / "state.safetensors")
    return folder / "state.safetensors", solve


def rows(folder):
    matrix = np.ones((4, 3), np.float32)
    matrix.tofile(folder / "rows.bin")
    (folder / "rows.json").write_text(json.dumps({"key": "k", "rows": 4}))

    def read(path):
        assert 0 <= RowStore(path.parent, matrix, "k").restore() <= 4

    return folder / "rows.json", read


def authors(folder):
    torch.manual_seed(0)
    saved = {f"backbone.{name}": value for name, value in UNet(AUTHORS).state_dict().items()}
    torch.save({"model": saved, "global_step": 7}, folder / "model.pth")
    return folder / "model.pth", lambda path: load_authors_checkpoint(path, AUTHORS)


MAKERS = (
    npy, cost, npz, npz_packed, hdf5, hdf5_packed, cifar, plain_json, tensors, halves, configuration, weights,
    state, log, metrics, coupling, prices, unfinished, rows, authors,
)  # fmt: skip
READERS = {
    **{make.__name__: make for make in MAKERS},
    **{suffix: picture(suffix) for suffix in (".png", ".jpg", ".webp", ".bmp", ".ppm")},
}


def outcome(read, path):
    """What the reader says of the file: "", or the message of an error of the documented types."""
    try:
        read(path)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(name, tmp_path):
    path, read = READERS[name](tmp_path)
    content = path.read_bytes()
    assert not outcome(read, path)
    refused = 0
    tracemalloc.start()
    try:
        for damaged in mutations(content, 0, COUNT):
            path.write_bytes(damaged)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            message = outcome(read, path)
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak <= 10 * len(damaged) + CONSTANT
            assert not message or (str(path.parent) in message and "\n" not in message)
            refused += message != ""
    finally:
        tracemalloc.stop()
    assert refused >= COUNT // 5 or name in ("rows", ".bmp", ".ppm")  # which notice little, or begin again


def claims(shape, dtype="<f4"):
    """A .npy file of 128 bytes that claims an array of this shape."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


ODD_ARRAYS = {
    "empty": b"",
    "0-d": np.float32(3),
    "no items": np.zeros((0, 3)),
    "no numbers": np.zeros((20, 0)),
    "objects": np.array([[None] * 3] * 20),
    "words": np.array([["a", "b"]] * 20),
    "records": np.zeros(20, [("x", "f4")]),
    "complex": np.zeros((20, 2), complex),
    "huge": claims((1 << 40, 1 << 20)),
    "negative": claims((-1, 3)),
    "overflowing": claims((1 << 62, 1 << 62)),
    "too large for float32": np.full((20, 2), 1e300),
}


@pytest.mark.parametrize("name", ODD_ARRAYS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_odd_arrays_are_one_line_and_exit_code_2(name, suffix, tmp_path, capsys):
    content, path = ODD_ARRAYS[name], tmp_path / f"a{suffix}"
    if isinstance(content, bytes):
        inner = content
    else:
        np.save(tmp_path / "inner.npy", content, allow_pickle=True)
        inner = (tmp_path / "inner.npy").read_bytes()
    if suffix == ".npy":
        path.write_bytes(inner)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", inner)
    words = ["--out", str(tmp_path / "out"), "--model.dim", "2", "--steps", "1"]
    assert main(["train", "moons", "--data", str(path), *words]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert str(path) in errors[0]
    assert not (tmp_path / "out").exists()


def test_a_configuration_that_claims_a_huge_network_takes_no_memory(tmp_path):
    run = untrained_run(tmp_path / "run", POINTS, data="digits")
    values = read_json(run / "config.json")
    for name, value in (("width", 10**6), ("depth", 10**9), ("dim", 10**30), ("width", 1 << 62)):
        (run / "config.json").write_text(json.dumps(values | {"model": values["model"] | {name: value}}))
        assert re.match(
            rf"{run}/(config\.json cannot be used|model\.saf.* does not fit)", outcome(load_model, run)
        )


def test_a_claimed_hdf5_array_takes_no_memory(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", shape=(1 << 20, 1 << 20), dtype="f4", chunks=(64, 64))
    assert "cannot be float32 of shape (1048576, 1048576) in 0 bytes" in outcome(
        load_dataset, tmp_path / "a.h5"
    )


def test_metadata_that_are_a_list(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"ids": np.zeros(1)}, {"coupling": "[1]"})
    message = outcome(Loom(24, (2, 3)).load, tmp_path / "a.safetensors")
    assert "its metadata are damaged: an object in braces is needed, it holds list" in message


def test_a_log_line_without_step_and_a_last_line_cut_short(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}\n{"st')
    assert read_log(path) == [{"step": 0}, {"step": 1}]
    for line in ('{"loss": 1.0}', "[1]", '{"step": "1"}', '{"step": true}', '{"step'):
        path.write_text('{"step": 0}\n' + line + '\n{"step": 2}\n')
        assert re.match(rf"{path} cannot be used, line 2 is damaged: ", outcome(read_log, path))


def test_an_entry_takes_the_place_of_a_line_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_entry(path, {"steps": 1, "curvature": float("nan")})
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"steps": 2, "cur')
    append_entry(path, {"steps": 3})
    assert read_log(path, ("steps",)) == [{"steps": 1, "curvature": None}, {"steps": 3}]


def test_bfloat16_and_half_precision_weights_are_those_of_a_network(tmp_path):
    from safetensors.torch import load_file, save_file

    run = untrained_run(tmp_path / "run", POINTS, data="moons")
    whole = load_file(run / "model.safetensors")
    for dtype in (torch.bfloat16, torch.float16):
        save_file(
            {name: value.to(dtype) for name, value in whole.items()}, run / "model.safetensors", {"step": "7"}
        )
        for folder in (run, export_run(run, tmp_path / str(dtype))):
            found = load_model(folder)[1].state_dict()
            assert all(torch.equal(found[name], whole[name].to(dtype).float()) for name in whole)
            words = ["--num", "3", "--nfe", "2", "--out", str(tmp_path / "samples.npz"), "--device", "cpu"]
            assert main(["sample", str(folder), *words]) == 0
    save_file(
        {name: value.to(torch.float8_e4m3fn) for name, value in whole.items()}, run / "model.safetensors"
    )
    assert "is of type F8_E4M3" in outcome(load_model, run)
