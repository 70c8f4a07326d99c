/* Noise format 1 in C11: float32 noise of an id, the same bits everywhere. The text is noise_format_1.md.
   Compile without contraction to fused multiply-adds: cc -std=c11 -ffp-contract=off noise_format_1.c -lm */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef __GNUC__ /* GCC has the option alone, and warns of what it does not know */
#pragma STDC FP_CONTRACT OFF
#endif

static float float_of(uint32_t bits) { float f; memcpy(&f, &bits, 4); return f; }
static uint32_t bits_of(float f) { uint32_t bits; memcpy(&bits, &f, 4); return bits; }
static int32_t signed_of(uint32_t bits) { int32_t i; memcpy(&i, &bits, 4); return i; }

static void philox4x32_10(uint32_t c[4], uint64_t seed) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1,
                            (uint32_t)(p0 >> 32) ^ c[3] ^ k1, (uint32_t)p0};
        memcpy(c, next, sizeof next);
    }
}

static float log_of(float u) {
    static const float P[9] = {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                               -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f};
    int32_t t = signed_of(bits_of(u)) - 0x3F3504F3;
    float e = (float)(t >= 0 ? t >> 23 : -((-t + 0x7FFFFF) >> 23)); /* rounded down, as an arithmetic shift does */
    float f = float_of(((uint32_t)t & 0x7FFFFFu) + 0x3F3504F3u) - 1.0f, p = P[0], z = f * f;
    for (int k = 1; k < 9; ++k) p = p * f + P[k];
    float tail = f * z * p + e * -2.12194440e-4f;
    tail = tail - 0.5f * z;
    return f + tail + e * 0.693359375f;
}

/* Two words give two normals. */
static void box_muller(uint32_t x0, uint32_t x1, float out[2]) {
    float r = sqrtf(-2.0f * log_of((float)(x0 >> 1) * 0x1p-31f + 0x1p-32f));
    uint32_t q = (x1 + (1u << 29)) >> 30; /* the quadrant; the sum wraps around */
    float a = (float)signed_of(x1 << 2) * float_of(0x2FC90FDBu), z = a * a; /* pi / 2 * 2^-32 */
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z + -1.6666654611e-1f) * (z * a) + a;
    float c = ((2.443315711809948e-5f * z + -1.388731625493765e-3f) * z + 4.166664568298827e-2f) * (z * z);
    c = c - 0.5f * z + 1.0f;
    float cosine = q & 1 ? s : c, sine = q & 1 ? c : s;
    out[0] = r * (q == 1 || q == 2 ? -cosine : cosine);
    out[1] = r * (q >= 2 ? -sine : sine);
}

/* Number e of an item is normal e % 4 of block e / 4. */
static void noise_of_id(int64_t id, uint64_t seed, uint32_t word3, uint32_t size, float *out) {
    for (uint32_t e = 0; e < size; e += 4) {
        uint32_t words[4] = {e / 4, (uint32_t)id, (uint32_t)((uint64_t)id >> 32), word3};
        float four[4];
        philox4x32_10(words, seed);
        box_muller(words[0], words[1], four);
        box_muller(words[2], words[3], four + 2);
        memcpy(out + e, four, sizeof(float) * (size - e < 4 ? size - e : 4));
    }
}

int main(int argc, char **argv) { /* seed, domain, size, ids...: the bits of their noise, an id a line */
    if (argc < 5) return fprintf(stderr, "usage: %s SEED DOMAIN SIZE ID...\n", argv[0]), 2;
    uint32_t size = (uint32_t)strtoul(argv[3], NULL, 10);
    float *out = malloc(sizeof(float) * (size + 1));
    for (int k = 4; out && k < argc; ++k) {
        noise_of_id(strtoll(argv[k], NULL, 10), strtoull(argv[1], NULL, 10), (uint32_t)strtoul(argv[2], NULL, 10), size, out);
        for (uint32_t e = 0; e < size; ++e) printf("%08x%c", (unsigned)bits_of(out[e]), e + 1 < size ? ' ' : '\n');
    }
    free(out);
    return 0;
}
