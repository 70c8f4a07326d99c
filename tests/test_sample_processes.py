"""Two processes that share the samples: what they write is what one writes, and they fail as one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from torch.distributed import TCPStore
from untrained import images, untrained_run

from loomfast.cli import main
from loomfast.distributed import World
from loomfast.plots import as_pixels
from loomfast.runs.directory import load_model
from loomfast.sampling.generate import generate

# What torchrun would start twice. The first command joins the group by itself, from torchrun's variables.
SCRIPT = """
import errno, json, os, sys
import torch, torch.distributed as dist
from loomfast.cli import main
from loomfast.runs import sample

torch.set_num_threads(1)
commands, meeting = json.loads(sys.argv[1]), sys.argv[2]
rank = int(os.environ["RANK"])
codes = [main(commands[0])]
assert not dist.is_initialized()
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
codes += [main(command) for command in commands[1:-1]]

def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

if rank == 1:
    sample.save_image_files = full
codes.append(main(commands[-1]))
assert dist.is_initialized()
dist.destroy_process_group()
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder two processes wrote into, and what each printed: (folder, [(out, err), (out, err)])."""
    folder = tmp_path_factory.mktemp("shared")
    run = untrained_run(folder / "run", images(num_classes=3))
    base = ["sample", str(run), "--device", "cpu", "--nfe", "2", "--out"]
    commands = [
        [*base, str(folder / "many.npz"), "--num", "70", "--start", "5", "--trajectory"],
        [*base, str(folder / "few.npz"), "--num", "3", "--label", "2"],
        [*base, f"{folder}/pictures/", "--num", "40"],
        [*base, f"{folder}/pictures/", "--num", "40"],
        [*base, str(folder / "nowhere.npz"), "--device", "cuda:99"],
        [*base, f"{folder}/full/", "--num", "40"],
    ]
    # As torchrun does: the port is this process's, so that nobody else can take it meanwhile.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(commands), str(folder / "meeting")],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    return folder, printed


def test_files_have_the_bits_of_a_single_process(shared):
    folder, _ = shared
    _, model = load_model(folder / "run")
    for name, num, start, y in (
        ("many", 70, 5, np.arange(5, 75) % 3),
        ("few", 3, 0, np.full(3, 2)),  # one block: nothing is left for the second process
    ):
        expected = generate(model, num, (1, 8, 8), seed=0, nfe=2, start=start, y=y)
        found = np.load(folder / f"{name}.npz")
        np.testing.assert_array_equal(found["samples"], expected.numpy())
        np.testing.assert_array_equal(found["labels"], y)
    assert np.load(folder / "many.npz")["trajectory"].shape == (2, 70, 1, 8, 8)


def test_a_folder_is_filled_by_both(shared):
    from PIL import Image

    folder, _ = shared
    _, model = load_model(folder / "run")
    expected = as_pixels(generate(model, 40, (1, 8, 8), seed=0, nfe=2, y=np.arange(40) % 3))
    for k, pixels in enumerate(expected):
        with Image.open(folder / "pictures" / f"{k:06d}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels)
    assert len(list((folder / "pictures").iterdir())) == 40


def test_the_first_process_speaks_and_fails_for_all(shared):
    folder, printed = shared
    (out, errors), (quiet, nothing) = printed
    assert [line.split(" samples")[0] for line in out.splitlines()[:-1]] == ["70", "3", "40"]
    assert json.loads(out.splitlines()[-1]) == [0, 0, 0, 2, 2, 2]
    not_empty, no_device, full = (line for line in errors.splitlines() if "error" in line)
    assert "is not empty" in not_empty
    assert "device is 'cuda:99', but" in no_device
    assert full == f"loomfast: error: process 1: [Errno 28] No space left on device: '{folder}/full'"
    assert json.loads(quiet) == [0, 0, 0, 0, 0, 0]
    assert nothing == ""
    assert sorted(p.name for p in folder.iterdir() if p.name != "meeting") == [
        "few.npz",
        "many.npz",
        "pictures",
        "run",
    ]


def test_one_process_is_a_group_of_one():
    alone = World()
    assert (alone.total(3), alone.from_first("a"), alone.collect("part", [5])) == (3, "a", "part")
    with pytest.raises(KeyError, match="x"), alone.together():
        raise KeyError("x")


def test_a_single_torchrun_process_needs_no_group(shared, tmp_path, monkeypatch):
    for name, value in (("WORLD_SIZE", "1"), ("RANK", "0"), ("MASTER_ADDR", "nowhere")):
        monkeypatch.setenv(name, value)
    out = tmp_path / "s.npz"
    assert main(["sample", str(shared[0] / "run"), "--device", "cpu", "--num", "2", "--out", str(out)]) == 0
