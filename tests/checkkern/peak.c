/* What the arithmetic units can do: register-only loops of the instructions that the convolution kernels use.
 */
#include "checkkern.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { CHAINS = 12, ROUNDS = 20000 };

/* Runs `step` on CHAINS independent accumulators, which the empty asm keeps in registers and alive. */
#define LOOP(isa, type, zero, step)                                              \
    __attribute__((target(isa))) static void loop_##type(void) {                 \
        type acc[CHAINS], x = zero, w = zero;                                    \
        __asm__ volatile("" : "+v"(x), "+v"(w));                                 \
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) acc[i] = zero; \
        for (int r = 0; r < ROUNDS; r++) {                                       \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) {          \
                step;                                                            \
                __asm__ volatile("" : "+v"(acc[i]), "+v"(x));                    \
            }                                                                    \
        }                                                                        \
    }

typedef __m512i vnni512;
typedef __m256i vnni256;
typedef __m512i madd512;
typedef __m256i madd256;
typedef __m512 fma512;
typedef __m256 fma256;
LOOP("avx512vnni", vnni512, _mm512_setzero_si512(), acc[i] = _mm512_dpbusd_epi32(acc[i], x, w))
#ifdef ESPL_EVEX_VNNI
LOOP("avx512vnni,avx512vl", vnni256, _mm256_setzero_si256(), acc[i] = _mm256_dpbusd_epi32(acc[i], x, w))
#else
LOOP("avxvnni", vnni256, _mm256_setzero_si256(), acc[i] = _mm256_dpbusd_avx_epi32(acc[i], x, w))
#endif
LOOP("avx512bw", madd512, _mm512_setzero_si512(), acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(x, w)))
LOOP("avx2", madd256, _mm256_setzero_si256(), acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(x, w)))
LOOP("avx512f", fma512, _mm512_setzero_ps(), acc[i] = _mm512_fmadd_ps(x, w, acc[i]))
LOOP("avx2,fma", fma256, _mm256_setzero_ps(), acc[i] = _mm256_fmadd_ps(x, w, acc[i]))

/* The best of many short runs: the machine may be shared. */
static double rate(void loop(void), int operations) {
    double best = INFINITY;
    for (int i = 0; i < 200; i++) {
        double start = espl__now();
        loop();
        best = fmin(best, espl__now() - start);
    }
    return (double)CHAINS * ROUNDS * operations / best * 1e-9;
}

/* Tiles of 16 x 64 and 64 x 16 bytes: four sums keep the unit busy. */
__attribute__((target("amx-tile,amx-int8"))) static void loop_tiles(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.colsb[i] = 64, config.rows[i] = 16;
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
    for (int r = 0; r < ROUNDS * CHAINS / 64 / 4; r++) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_release();
}

double peak_u8(espl__cpu level) {
    switch (level) {
        case ESPL__CPU_AMX:
            return rate(loop_tiles, 2 * 16 * 16 * 64 / 64);
        case ESPL__CPU_AVX512VBMI:
        case ESPL__CPU_AVX512VNNI:
            return rate(loop_vnni512, 128);
        case ESPL__CPU_AVX512:
            return rate(loop_madd512, 64);
        case ESPL__CPU_AVXVNNI:
            return rate(loop_vnni256, 64);
        case ESPL__CPU_AVX2:
            return rate(loop_madd256, 32);
        default:
            return 0.0;
    }
}

double peak_f32(espl__cpu level) {
    if (level >= ESPL__CPU_AVX512) return rate(loop_fma512, 32);
    return level >= ESPL__CPU_AVX2 ? rate(loop_fma256, 16) : 0.0;
}
#else
double peak_u8(espl__cpu level) {
    return 0.0 * level;
}
double peak_f32(espl__cpu level) {
    return 0.0 * level;
}
#endif
