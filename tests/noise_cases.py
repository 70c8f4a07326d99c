"""What every backend of the noise is asked."""

import numpy as np

IDS = np.array([0, 1, 2, 12345, -1, -(2**63), 2**63 - 1, 2**32, 2**32 + 1, -(2**40) + 3])

# Random123, kat_vectors, "philox4x32 10": counter, key, words.
KNOWN_ANSWERS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# SHA-256 of the little-endian bytes of the noise of IDS in items of (3, 5, 7), by dtype, seed and domain.
# They define noise format 1: a change here is a new format.
GOLDEN_NOISE = {
    ("float32", 0, 0): "2aff048cbc1bb1acff9b9e6882cf9874af4dccc8ebfbdd2fe0749df19a0764f9",
    ("float32", 2**64 - 1, 3): "372f5129ccc29662aa3ad3b377ba7fd49ccd1cb008d2b8cc113da26fdeef83cc",
    ("float64", 7, 1): "3951e10fc17a9777e9ae5afc90dcbebd84934c354374b2fc1a5abe1d94394d0a",
    ("bfloat16", 7, 1): "244cce5cc086183ad446fb3602a5a74cb02d7814f9d271bafc356c4091163520",
}
