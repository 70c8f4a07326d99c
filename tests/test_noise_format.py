"""The specification of noise format 1: its vectors are what the engine makes, and its C program agrees."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import loomfast
from loomfast.noise import reference

FOLDER = Path(__file__).parents[1] / "docs" / "noise_format"
VECTORS = json.loads((FOLDER / "noise_format_1.json").read_text())


def words(texts):
    return np.array([int(text, 16) for text in texts], np.uint32)


@pytest.mark.parametrize("vector", VECTORS["philox"])
def test_words_of_a_counter(vector):
    found = reference.philox4x32([word[None] for word in words(vector["counter"])], words(vector["key"]))
    assert (np.concatenate(found) == words(vector["words"])).all()


def test_two_words_give_two_normals():
    x0, x1 = (
        words([v["words"][0] for v in VECTORS["box_muller"]]),
        words([v["words"][1] for v in VECTORS["box_muller"]]),
    )
    found = np.stack(reference.box_muller(x0, x1), axis=1)
    expected = np.stack([words(v["normals"]) for v in VECTORS["box_muller"]])
    assert (found.view(np.uint32) == expected).all()
    assert np.abs(found).max() == pytest.approx(np.sqrt(64 * np.log(2)), rel=1e-6)  # the text's largest


@pytest.mark.parametrize("vector", VECTORS["noise"], ids=lambda v: f"seed {v['seed']} id {v['id']}")
def test_noise_of_an_id(vector):
    ids, options = np.array([int(vector["id"])]), {"seed": int(vector["seed"]), "domain": vector["domain"]}
    found = loomfast.noise_from_ids(ids, (vector["size"],), **options)
    assert (found.view(np.uint32)[0] == words(vector["bits"])).all()


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
@pytest.mark.parametrize("optimise", ["-O0", "-O3"])
def test_the_program_in_c_makes_the_same_bits(tmp_path, optimise):
    program, warnings = (
        tmp_path / "noise",
        ("-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"),
    )
    source = FOLDER / "noise_format_1.c"
    subprocess.run(
        ["cc", "-std=c11", optimise, "-ffp-contract=off", *warnings, source, "-o", program, "-lm"], check=True
    )
    for v in VECTORS["noise"]:
        command = [program, v["seed"], str(v["domain"]), str(v["size"]), v["id"]]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.split() == v["bits"]
    ids = np.random.default_rng(0).integers(-(2**63), 2**63, 50)
    command = [program, "99", "1", "400", *map(str, ids)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    noise = loomfast.noise_from_ids(ids, (400,), seed=99, domain=1)
    assert (words(said.split()) == noise.view(np.uint32).ravel()).all()
