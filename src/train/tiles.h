/* Products of f32 values on tiles of bfloat16.
 *
 * A float is exactly the sum of three bfloat16, its significand cut into 8 + 8 + 8 bits: x = h + m + l. Of
 * the nine products of two such sums the six largest are made, h h, h m, m h, h l, l h and m m, each exact
 * and added up in f32; what is left out is below 2^-21 of |x| |y|, a rounding of f32 or two. A tile does 16
 * times the products that two AVX-512 units do, so six of them for one still win (Henry, Tang, Heinecke 2019,
 * "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations").
 *
 * A "brick" is a tile operand in its three parts: 16 rows of 32 values. The order of the 32 is value p beside
 * value p + 16, which takes two instructions to make. */
#ifndef ESPL_TRAIN_TILES_H
#define ESPL_TRAIN_TILES_H

#include <immintrin.h>
#include <stdint.h>

enum {
    ROWS = 16,                /* of a tile */
    DEPTH = 32,               /* values of a row */
    PLANE = ROWS * DEPTH * 2, /* bytes of one part */
    BRICK = 3 * PLANE
};

/* --- tiles ------------------------------------------------------------------------------------------ */

typedef struct tile_config {
    uint8_t palette, start, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static inline void begin_tiles(void) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = DEPTH * 2;
        c.rows[i] = ROWS;
    }
    _tile_loadconfig(&c);
}

/* Tiles 0..3 += (two bricks a) x (two bricks b), by parts. */
static inline __attribute__((always_inline)) void multiply(const char *a, const char *b) {
#define LOAD_A(part)                      \
    _tile_loadd(4, a + (part)*PLANE, 64); \
    _tile_loadd(5, a + BRICK + (part)*PLANE, 64)
#define LOAD_B(part)                      \
    _tile_loadd(6, b + (part)*PLANE, 64); \
    _tile_loadd(7, b + BRICK + (part)*PLANE, 64)
#define PRODUCTS()           \
    _tile_dpbf16ps(0, 4, 6); \
    _tile_dpbf16ps(1, 4, 7); \
    _tile_dpbf16ps(2, 5, 6); \
    _tile_dpbf16ps(3, 5, 7)
    LOAD_A(0);
    LOAD_B(2);
    PRODUCTS();
    LOAD_B(1);
    PRODUCTS();
    LOAD_B(0);
    PRODUCTS();
    LOAD_A(1);
    PRODUCTS();
    LOAD_A(2);
    PRODUCTS();
    LOAD_A(1);
    LOAD_B(1);
    PRODUCTS();
#undef LOAD_A
#undef LOAD_B
#undef PRODUCTS
}

/* What the tile instructions read and write is behind the compiler's back. */
static inline void fence(void) {
    __asm__ volatile("" : : : "memory");
}

static inline void load_sums(const float *from, int64_t row) {
    fence();
    _tile_loadd(0, from, (size_t)row * sizeof(float));
    _tile_loadd(1, from + ROWS, (size_t)row * sizeof(float));
    _tile_loadd(2, from + ROWS * row, (size_t)row * sizeof(float));
    _tile_loadd(3, from + ROWS * row + ROWS, (size_t)row * sizeof(float));
}
static inline void clear_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}
static inline void store_sums(float *to, int64_t row) {
    _tile_stored(0, to, (size_t)row * sizeof(float));
    _tile_stored(1, to + ROWS, (size_t)row * sizeof(float));
    _tile_stored(2, to + ROWS * row, (size_t)row * sizeof(float));
    _tile_stored(3, to + ROWS * row + ROWS, (size_t)row * sizeof(float));
    fence();
}

/* --- bricks ----------------------------------------------------------------------------------------- */

/* The next parts of values a (in the lower halves) and b; what is left of them stays. */
static inline __m512i part(__m512 *a, __m512 *b) {
    const __m512i top = _mm512_set1_epi32((int)0xFFFF0000u);
    __m512i ha = _mm512_and_si512(_mm512_castps_si512(*a), top);
    __m512i hb = _mm512_and_si512(_mm512_castps_si512(*b), top);
    *a = _mm512_sub_ps(*a, _mm512_castsi512_ps(ha));
    *b = _mm512_sub_ps(*b, _mm512_castsi512_ps(hb));
    return _mm512_or_si512(_mm512_srli_epi32(ha, 16), hb);
}

/* Row `row` of a brick. */
static inline void put(char *brick, int64_t row, __m512 a, __m512 b) {
    for (int p = 0; p < 3; p++) _mm512_store_si512(brick + p * PLANE + row * 64, part(&a, &b));
}

/* 16 x 16 words. */
static inline void transpose(const __m512i *in, char *out) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(in[i], in[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(in[i], in[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
    /* b[4 i + j] has of rows 4 i .. 4 i + 3 the columns j, j + 4, j + 8, j + 12, 4 words each. */
    for (int j = 0; j < 4; j++) {
        __m512i u = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x44),
                v = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x44);
        __m512i s = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xEE),
                t = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xEE);
        _mm512_store_si512(out + 64 * j, _mm512_shuffle_i32x4(u, v, 0x88));
        _mm512_store_si512(out + 64 * (4 + j), _mm512_shuffle_i32x4(u, v, 0xDD));
        _mm512_store_si512(out + 64 * (8 + j), _mm512_shuffle_i32x4(s, t, 0x88));
        _mm512_store_si512(out + 64 * (12 + j), _mm512_shuffle_i32x4(s, t, 0xDD));
    }
}

#endif
