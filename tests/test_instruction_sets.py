"""Which instruction sets the engine has here, and the choice between them, one for all operations."""

import pytest

from loomfast import _engine, doctor

ORDER = ("portable", "sse2", "neon", "avx2", "avx512")


def test_instruction_sets_end_with_the_fastest():
    names = _engine.instruction_sets()
    assert names == [name for name in ORDER if name in names]
    assert names[0] == "portable"


def test_what_this_processor_lacks_is_refused():
    with pytest.raises(ValueError, match=r"auto or one of instruction_sets\(\), got mmx"):
        _engine.use_instruction_set("mmx")


def test_doctor_names_the_one_in_use():
    *others, fastest = _engine.instruction_sets()
    detail = doctor.instruction_sets().detail
    assert detail.startswith(f"assignment, noise and cost use {fastest}")
    assert all(name in detail for name in others)
