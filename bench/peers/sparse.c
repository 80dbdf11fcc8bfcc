/* One matrix times a vector, or a few, in the forms that sparse.py and weightonly.py compare: our kernels,
 * OpenBLAS, and compressed rows with AVX-512 gathers. A form has copies of its weights, which runs take in
 * turn, so that they come from where the copies together have room. sparse.py makes a shared library of this
 * file and libespalier-rt.a. */
#define _GNU_SOURCE /* madvise, clock_gettime */
#include <cblas.h>
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels/kernels.h"
#include "tensor/tensor.h"

enum { SGEMV, DENSE_F32, DENSE_S8, CSR, BANK, WONLY };

/* `slots` of every `size` weights of a row are there: BANK in each window, CSR on average. values: an
 * espl_dtype. WONLY: weights of `slots` bits with a scale for `size` of them, x in `planes` bytes. */
typedef struct form {
    int kind, rows, columns, slots, size, values, planes, batch;
} form;

typedef struct peer {
    form f;
    float *matrix, *x, *y;
    double *want;
    int8_t *codes;
    uint8_t *x_codes;
    uint8_t *packed, *copies;
    size_t bytes, step; /* of a copy; from one to the next */
    int count, turn;
    int32_t *start; /* CSR */
    size_t kept;
    espl__bank bank;
    espl__wonly wonly;
    float *scale;
    uint8_t *rounded;
    espl__conv conv;
} peer;

static uint64_t state = 88172645463325252u;
static uint32_t random_u32(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32);
}
static float random_float(void) {
    return (float)random_u32() * 0x1p-31f - 1.0f;
}

/* Zeroed, in large pages where there are some, as the library's own large blocks are. */
static void *block_of(size_t bytes) {
    const size_t huge = 2 << 20;
    void *p = aligned_alloc(huge, (bytes + huge) / huge * huge);
    if (!p) abort();
    madvise(p, (bytes + huge) / huge * huge, MADV_HUGEPAGE);
    return memset(p, 0, bytes);
}

/* --- the matrix -------------------------------------------------------------------------------------- */

static float random_weight(const form *f) {
    if (f->values == ESPL_S8)
        return (float)((int)(random_u32() % 127) + 1) * (random_u32() & 1 ? 1.0f : -1.0f);
    const float w = random_float();
    return f->values == ESPL_F16    ? espl__half_to_float(espl__half_from_float(w))
           : f->values == ESPL_BF16 ? espl__bfloat_to_float(espl__bfloat_from_float(w))
                                    : w;
}

static void fill_row(const form *f, float *row) {
    for (int first = 0; first < f->columns; first += f->size) {
        const int length = first + f->size < f->columns ? f->size : f->columns - first;
        int keep = f->slots < length ? f->slots : length;
        for (int i = 0; i < length; i++) {
            const int yes = f->kind == CSR ? (int)(random_u32() % (uint32_t)f->size) < f->slots
                                           : (int)(random_u32() % (uint32_t)(length - i)) < keep;
            if (!yes) continue;
            row[first + i] = random_weight(f);
            keep--;
        }
    }
}

/* Codes and scales, and the numbers that they are. Scales are halves. */
static void fill_codes(peer *p, int r, float *row) {
    const form *f = &p->f;
    const int groups = (f->columns + f->size - 1) / f->size, half = 1 << (f->slots - 1);
    float *scale = p->scale + (size_t)r * (size_t)groups;
    for (int i = 0; i < f->columns; i++) {
        const int code = (int)(random_u32() % (uint32_t)(2 * half)) - half;
        if (i % f->size == 0) scale[i / f->size] = (float)(1 + random_u32() % 1000) * 0x1p-14f;
        p->codes[(size_t)r * (size_t)f->columns + (size_t)i] = (int8_t)code;
        row[i] = (float)code * scale[i / f->size];
    }
}

static void make_matrix(peer *p) {
    const form *f = &p->f;
    const size_t all = (size_t)f->rows * (size_t)f->columns;
    p->matrix = block_of(all * sizeof *p->matrix);
    p->codes = block_of(all);
    p->scale = block_of(all / (size_t)f->size * sizeof *p->scale + 64);
    p->x = block_of((size_t)f->columns * (size_t)f->batch * sizeof *p->x);
    p->x_codes = block_of((size_t)f->columns);
    p->y = block_of((size_t)f->rows * (size_t)f->batch * sizeof *p->y);
    p->want = block_of((size_t)f->rows * sizeof *p->want);
    for (int i = f->columns; i < f->columns * f->batch; i++) p->x[i] = random_float();
    for (int i = 0; i < f->columns; i++) {
        p->x_codes[i] = (uint8_t)random_u32();
        p->x[i] = f->values == ESPL_S8 ? p->x_codes[i] : random_float();
    }
    for (int r = 0; r < f->rows; r++) {
        float *row = p->matrix + (size_t)r * (size_t)f->columns;
        if (f->kind == WONLY)
            fill_codes(p, r, row);
        else
            fill_row(f, row);
        for (int i = 0; i < f->columns; i++) {
            p->want[r] += (double)row[i] * p->x[i];
            if (f->kind != WONLY)
                p->codes[(size_t)r * (size_t)f->columns + (size_t)i] =
                    f->values == ESPL_S8 ? (int8_t)row[i] : 0;
            p->kept += row[i] != 0.0f;
        }
    }
}

/* --- weights as each form reads them ----------------------------------------------------------------- */

/* [values][columns]; the starts of the rows are read beside them. */
static uint8_t *pack_csr(peer *p) {
    float *values = block_of(p->kept * 8 + 64);
    int32_t *columns = (int32_t *)(values + p->kept);
    int32_t n = 0;
    p->start = block_of(((size_t)p->f.rows + 1) * sizeof *p->start);
    for (int r = 0; r < p->f.rows; r++) {
        for (int i = 0; i < p->f.columns; i++) {
            const float w = p->matrix[(size_t)r * (size_t)p->f.columns + (size_t)i];
            if (w == 0.0f) continue;
            values[n] = w;
            columns[n++] = i;
        }
        p->start[r + 1] = n;
    }
    p->bytes = p->kept * 8;
    return (uint8_t *)values;
}

static uint8_t *pack_bank(peer *p, const espl__weight_order *o) {
    const form *f = &p->f;
    const int s8 = f->values == ESPL_S8;
    const int32_t slots = s8 ? espl__bank_slots_s8(o, p->codes, 0, f->slots)
                             : espl__bank_slots_f32(o, p->matrix, f->size, f->slots);
    if (slots != f->slots) abort();
    p->bank = s8 ? espl__bank_s8(o, slots) : espl__bank_f32(o, f->size, slots, f->values);
    int32_t *off = block_of((size_t)p->bank.count * sizeof *off);
    espl__bank_offsets(o, &p->bank, NULL, off);
    p->bank.off = off;
    p->conv.bank = &p->bank;
    const int64_t blocks = (f->rows + 15) / 16;
    p->bytes = (size_t)(blocks * p->bank.block);
    uint8_t *packed = block_of(p->bytes);
    if (s8)
        espl__pack_bank_s8(o, p->codes, 0, &p->bank, 0, blocks, packed);
    else
        espl__pack_bank_f32(o, p->matrix, &p->bank, 0, blocks, packed);
    return packed;
}

static uint8_t *pack_wonly(peer *p, const espl__weight_order *o) {
    const form *f = &p->f;
    const int64_t blocks = (f->rows + 15) / 16;
    const espl__scales scales = {p->scale, (f->columns + f->size - 1) / f->size, 1};
    p->wonly = espl__wonly_of(f->rows, f->columns, f->size, f->slots, f->planes, &scales);
    p->bytes = (size_t)(blocks * p->wonly.block);
    p->conv.wonly = &p->wonly;
    p->conv.in_step = p->wonly.units * espl__wonly_record(&p->wonly);
    p->conv.out_step = f->rows * (ptrdiff_t)sizeof *p->y;
    p->rounded = block_of((size_t)p->conv.in_step * (size_t)f->batch);
    uint8_t *packed = block_of(p->bytes);
    espl__wonly_pack(o, p->codes, 0, &scales, &p->wonly, 0, blocks, packed);
    return packed;
}

static uint8_t *pack(peer *p) {
    const form *f = &p->f;
    const espl__weight_order o = espl__weight_rows(f->rows, 1, f->columns);
    uint8_t *packed;
    if (f->kind == CSR) return pack_csr(p);
    if (f->kind == BANK) return pack_bank(p, &o);
    if (f->kind == WONLY) return pack_wonly(p, &o);
    const int halves = f->kind == DENSE_F32 && f->values != ESPL_F32;
    p->bytes = (size_t)f->rows * (size_t)f->columns * (f->kind == DENSE_S8 ? 1 : halves ? 2 : 4);
    packed = block_of(p->bytes + ESPL__PACK_SLACK);
    if (f->kind == SGEMV) memcpy(packed, p->matrix, p->bytes);
    if (halves) {
        uint16_t *w = block_of(p->bytes);
        for (size_t i = 0; i < p->bytes / 2; i++)
            w[i] = f->values == ESPL_F16 ? espl__half_from_float(p->matrix[i])
                                         : espl__bfloat_from_float(p->matrix[i]);
        espl__pack_16(&o, w, (uint16_t *)packed);
        p->conv.values = f->values;
        free(w);
    } else if (f->kind == DENSE_F32)
        espl__pack_f32(p->matrix, f->rows, 1, f->columns, (float *)packed);
    if (f->kind == DENSE_S8) espl__pack_s8(p->codes, f->rows, 1, f->columns, (int8_t *)packed);
    return packed;
}

static void describe(peer *p) {
    static const int32_t none = 0;
    const form *f = &p->f;
    const size_t padded = (size_t)(f->rows + 15) / 16 * 16;
    float *ones = block_of(padded * sizeof *ones);
    for (size_t i = 0; i < padded; i++) ones[i] = 1.0f;
    p->conv = (espl__conv){.segments = 1,
                           .seg_k = f->kind == DENSE_S8 ? f->columns / 4 : f->columns,
                           .seg_off = &none,
                           .bias = block_of(padded * 4),
                           .channels = f->rows,
                           .q = {.mult = ones},
                           .flo = -INFINITY,
                           .fhi = INFINITY};
}

/* --- runs ---------------------------------------------------------------------------------------------- */

__attribute__((target("avx512f"))) static void csr_gather(const peer *p, const uint8_t *w) {
    const float *values = (const float *)w;
    const int32_t *columns = (const int32_t *)(values + p->kept);
    for (int r = 0; r < p->f.rows; r++) {
        __m512 a = _mm512_setzero_ps(), b = a;
        int i = p->start[r], end = p->start[r + 1];
        for (; i + 32 <= end; i += 32) {
            const __m512 x = _mm512_i32gather_ps(_mm512_loadu_si512(columns + i), p->x, 4),
                         y = _mm512_i32gather_ps(_mm512_loadu_si512(columns + i + 16), p->x, 4);
            a = _mm512_fmadd_ps(_mm512_loadu_ps(values + i), x, a);
            b = _mm512_fmadd_ps(_mm512_loadu_ps(values + i + 16), y, b);
        }
        for (; i < end; i += 16) {
            const __mmask16 some = end - i >= 16 ? 0xFFFF : (__mmask16)((1u << (end - i)) - 1);
            const __m512 x = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), some,
                                                      _mm512_maskz_loadu_epi32(some, columns + i), p->x, 4);
            a = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, values + i), x, a);
        }
        p->y[r] = _mm512_reduce_add_ps(_mm512_add_ps(a, b));
    }
}

static void run_once(peer *p, const uint8_t *w) {
    const espl__kernels *k = espl__kernels_get();
    const form *f = &p->f;
    const int blocks = (f->rows + 15) / 16, s8 = f->values == ESPL_S8;
    p->conv.w = w;
    switch (f->kind) {
        case SGEMV:
            cblas_sgemv(CblasRowMajor, CblasNoTrans, f->rows, f->columns, 1.0f, (const float *)w, f->columns,
                        p->x, 1, 0.0f, p->y, 1);
            break;
        case DENSE_F32:
            k->gemv_f32(&p->conv, p->x, p->y, NULL, 1, 0, blocks);
            break;
        case DENSE_S8:
            k->gemv_u8_f32(&p->conv, p->x_codes, p->y, NULL, 1, 0, blocks);
            break;
        case CSR:
            csr_gather(p, w);
            break;
        case WONLY:
            k->wonly_round(&p->wonly, p->x, f->columns * (ptrdiff_t)sizeof *p->x, p->rounded, f->batch);
            k->wonly_f32(&p->conv, p->rounded, p->y, NULL, f->batch, 0, blocks);
            break;
        default:
            if (s8)
                k->bank_gemv_u8_f32(&p->conv, p->x_codes, p->y, NULL, 1, 0, blocks);
            else
                k->bank_gemv_f32(&p->conv, p->x, p->y, NULL, 1, 0, blocks);
    }
}

/* Plain loads of a copy, as `streams` pieces side by side. */
__attribute__((target("avx512f"))) static void read_once(const uint8_t *w, size_t bytes, int streams) {
    const size_t piece = bytes / (size_t)streams / 64 * 64;
    __m512i sum[8] = {_mm512_setzero_si512()};
    for (size_t i = 0; i < piece; i += 64)
        for (int s = 0; s < streams; s++)
            sum[s] = _mm512_or_si512(sum[s], _mm512_load_si512(w + (size_t)s * piece + i));
    for (int s = 0; s < streams; s++) __asm__ volatile("" ::"x"(sum[s]));
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The shortest of `runs` runs, in seconds, each on the copy whose turn it is. streams 0: the product; else
 * reading only. */
double peer_run(peer *p, int runs, int streams) {
    double best = HUGE_VAL;
    for (int i = 0; i < runs; i++, p->turn = (p->turn + 1) % p->count) {
        const uint8_t *w = p->copies + (size_t)p->turn * p->step;
        const double begin = seconds();
        if (streams == 8)
            read_once(w, p->bytes, 8);
        else if (streams)
            read_once(w, p->bytes, 1);
        else
            run_once(p, w);
        best = fmin(best, seconds() - begin);
    }
    return best;
}

/* `total`: bytes that the copies take together at least; 0: one copy. NULL if `room` is too small for them.
 */
peer *peer_open(const form *f, size_t total, size_t room) {
    peer *p = block_of(sizeof *p);
    p->f = *f;
    describe(p);
    make_matrix(p);
    p->packed = pack(p);
    p->count = total ? (int)((total + p->bytes - 1) / p->bytes) : 1;
    p->step = (p->bytes + ESPL__PACK_SLACK + 4095) / 4096 * 4096;
    return p->step * (size_t)p->count <= room ? p : NULL;
}

/* Memory of all copies. */
void *peer_memory(size_t bytes) {
    return block_of(bytes);
}

/* Writes the copies, past the caches. */
__attribute__((target("avx512f"))) void peer_load(peer *p, uint8_t *memory) {
    p->copies = memory;
    p->turn = 0;
    for (int i = 0; i < p->count; i++)
        for (size_t at = 0; at < p->bytes; at += 64)
            _mm512_stream_si512((void *)(memory + (size_t)i * p->step + at),
                                _mm512_load_si512(p->packed + at));
    _mm_sfence();
}

/* |y - want| / |want| of one run. */
double peer_error(peer *p) {
    double apart = 0, size = 0;
    peer_run(p, 1, 0);
    for (int r = 0; r < p->f.rows; r++) {
        apart += (p->y[r] - p->want[r]) * (p->y[r] - p->want[r]);
        size += p->want[r] * p->want[r];
    }
    return sqrt(apart / size);
}

double peer_bytes(const peer *p) {
    return (double)p->bytes;
}

void peer_close(peer *p) {
    void *all[] = {p->matrix,
                   p->x,
                   p->y,
                   p->want,
                   p->codes,
                   p->x_codes,
                   p->packed,
                   p->start,
                   p->scale,
                   p->rounded,
                   (void *)p->bank.off,
                   (void *)p->conv.bias,
                   (void *)p->conv.q.mult,
                   p};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}
