/* Six ways to walk the two views, chosen when planned:
 *  runs:      both are contiguous along the innermost dimension: one kernel call a run;
 *  transpose: they are contiguous along different dimensions: blocks of both are converted and transposed;
 *  lines:     the same where lines of an image follow each other in src and have a border in dst: several
 * short lines are converted as one run, and transposed one by one; gather:    only dst is contiguous:
 * elements are gathered into a small buffer first; scatter:   only src is: runs go to the small buffer and
 * are spread from there; planes:    three planes become u8 pixels of four bytes (an image on its way into the
 * first layer). */
#include "runtime/convert.h"

enum {
    CHUNK = 2048,
    LINE = 64,       /* of memory */
    LONG = 256,      /* elements of a transposed block along the side that is f32, if one is */
    SIDE = 64,       /* and along the other one */
    WORTH = 8,       /* shorter sides are not worth transposing, but for the pixels of an image in f32 */
    PARALLEL = 65536 /* elements from which threads share the outermost dimension */
};

static void swap_dims(convert *c, int a, int b) {
    int64_t d = c->dim[a], s = c->src[a], t = c->dst[a];
    c->dim[a] = c->dim[b], c->src[a] = c->src[b], c->dst[a] = c->dst[b];
    c->dim[b] = d, c->src[b] = s, c->dst[b] = t;
}

static void sort_and_merge(convert *c) {
    for (int i = 1; i < c->rank; i++)
        for (int j = i; j > 0 && c->dst[j] > c->dst[j - 1]; j--) swap_dims(c, j, j - 1);
    for (int i = c->rank - 1; i > 0; i--) {
        bool whole = c->src[i - 1] == c->src[i] * c->dim[i] && c->dst[i - 1] == c->dst[i] * c->dim[i];
        if (!whole) continue;
        c->dim[i - 1] *= c->dim[i];
        c->src[i - 1] = c->src[i];
        c->dst[i - 1] = c->dst[i];
        for (int j = i; j + 1 < c->rank; j++) swap_dims(c, j, j + 1);
        c->rank--;
    }
}

static bool choose_op(convert *c, const view *src, const view *dst) {
    if (src->quantized && dst->quantized) {
        bool same = src->scale == dst->scale && src->zero == dst->zero;
        c->op = same ? CONVERT_COPY : CONVERT_REQUANTIZE;
        c->scale = src->scale / dst->scale;
        c->zin = src->zero;
        c->zout = dst->zero;
    } else if (dst->quantized && src->type == ESPL_F32) {
        c->op = CONVERT_QUANTIZE;
        c->inverse = 1.0f / dst->scale;
        c->zout = dst->zero;
    } else if (src->quantized && dst->type == ESPL_F32) {
        c->op = CONVERT_DEQUANTIZE;
        c->scale = src->scale;
        c->zin = src->zero;
    } else if (src->type == dst->type && src->quantized == dst->quantized) {
        c->op = CONVERT_COPY;
    } else {
        return false;
    }
    return true;
}

/* The last two dimensions are then channel and position. The fourth byte of a pixel is nobody's. */
static void choose_planes(convert *c, const view *dst) {
    int last = c->rank - 1;
    if (c->mode != CONVERT_SCATTER || c->dst_bytes != 1 || c->dst[last] != 4 || dst->offset % 4 != 0 ||
        !dst->nhwc)
        return;
    for (int d = 0; d < last; d++)
        if (c->dst[d] == 1 && c->dim[d] == 3) {
            for (int j = d; j < last - 1; j++) swap_dims(c, j, j + 1);
            c->mode = CONVERT_PLANES;
            return;
        }
}

/* Innermost is then the dimension dst is contiguous along, before it the one of src. */
static void choose_transpose(convert *c) {
    int last = c->rank - 1, along_src = -1, along_dst = -1;
    for (int d = 0; d <= last; d++) {
        if (c->src[d] == c->src_bytes && c->dim[d] >= WORTH) along_src = d;
        const bool pixels = c->dim[d] == 3 && c->op == CONVERT_COPY && c->dst_bytes == 4;
        if (c->dst[d] == c->dst_bytes && (c->dim[d] >= WORTH || pixels)) along_dst = d;
    }
    bool sizes = c->op == CONVERT_COPY ? c->src_bytes == 1 || c->src_bytes == 4 : true;
    if (c->mode == CONVERT_PLANES || along_src < 0 || along_dst < 0 || along_src == along_dst || !sizes)
        return;
    for (int d = along_src; d < last; d++) swap_dims(c, d, d + 1);
    if (along_dst > along_src) along_dst--;
    for (int d = along_dst; d < last - 1; d++) swap_dims(c, d, d + 1);
    swap_dims(c, last - 1, last);
    const bool lines = last >= 2 && c->dst_bytes == 1 && c->src_bytes == 4 && 2 * c->dim[last - 1] <= LONG &&
                       c->src[last - 2] == c->src[last - 1] * c->dim[last - 1];
    c->mode = lines ? CONVERT_LINES : CONVERT_TRANSPOSE;
}

bool espl__convert_plan(convert *c, const view *src, const view *dst) {
    *c = (convert){.src_bytes = (int)espl_dtype_bytes(src->type),
                   .dst_bytes = (int)espl_dtype_bytes(dst->type)};
    if (src->rank != dst->rank || !choose_op(c, src, dst)) return false;
    c->work = 1;
    for (int d = 0; d < src->rank; d++) {
        if (src->dim[d] != dst->dim[d]) return false;
        c->work *= src->dim[d];
        if (src->dim[d] == 1) continue;
        c->dim[c->rank] = src->dim[d];
        c->src[c->rank] = src->stride[d];
        c->dst[c->rank++] = dst->stride[d];
    }
    if (c->rank == 0) {
        c->rank = 1;
        c->dim[0] = 1;
        c->src[0] = c->src_bytes;
        c->dst[0] = c->dst_bytes;
    }
    sort_and_merge(c);
    int last = c->rank - 1;
    if (c->src[last] == c->src_bytes && c->dst[last] == c->dst_bytes) {
        c->mode = CONVERT_RUNS;
        return true;
    }
    c->mode = c->src[last] == c->src_bytes ? CONVERT_SCATTER : CONVERT_GATHER;
    for (int d = 0; d < last && c->mode == CONVERT_GATHER; d++)
        if (c->src[d] == c->src_bytes && (c->dim[d] > c->dim[last] || c->dst[last] != c->dst_bytes)) {
            c->mode = CONVERT_SCATTER;
            for (int j = d; j < last; j++) swap_dims(c, j, j + 1); /* the run goes innermost */
        }
    choose_planes(c, dst);
    choose_transpose(c);
    return true;
}

const char *espl__convert_name(const convert *c) {
    static const char *const names[] = {"copy", "quantize", "dequantize", "requantize"};
    return names[c->op];
}

static void run(const convert *c, const espl__kernels *k, const void *src, void *dst, int64_t n) {
    switch (c->op) {
        case CONVERT_COPY:
            memcpy(dst, src, (size_t)(n * c->dst_bytes));
            break;
        case CONVERT_QUANTIZE:
            k->quantize(c->inverse, c->zout, 0, 255, src, dst, n);
            break;
        case CONVERT_DEQUANTIZE:
            k->dequantize(c->scale, c->zin, src, dst, n);
            break;
        case CONVERT_REQUANTIZE:
            k->requant_u8(c->scale, c->zin, c->zout, src, dst, n);
            break;
    }
}

static void spread(const char *src, int64_t src_stride, char *dst, int64_t dst_stride, int64_t n, int bytes) {
    switch (bytes) {
        case 1:
            for (int64_t i = 0; i < n; i++) dst[i * dst_stride] = src[i * src_stride];
            break;
        case 4:
            for (int64_t i = 0; i < n; i++) memcpy(dst + i * dst_stride, src + i * src_stride, 4);
            break;
        default:
            for (int64_t i = 0; i < n; i++) memcpy(dst + i * dst_stride, src + i * src_stride, (size_t)bytes);
    }
}

static void planes(const convert *c, const espl__kernels *k, const char *src, char *dst) {
    _Alignas(64) uint8_t plane[3][CHUNK];
    _Alignas(64) uint32_t pixel[CHUNK];
    int last = c->rank - 1;
    for (int64_t i = 0; i < c->dim[last]; i += CHUNK) {
        int64_t m = ESPL_MIN(c->dim[last] - i, CHUNK);
        for (int p = 0; p < 3; p++) run(c, k, src + p * c->src[last - 1] + i * c->src[last], plane[p], m);
        for (int64_t j = 0; j < m; j++)
            pixel[j] = plane[0][j] | (uint32_t)plane[1][j] << 8 | (uint32_t)plane[2][j] << 16;
        memcpy(dst + i * 4, pixel, (size_t)m * 4);
    }
}

/* One block: `rows` runs of src, `columns` elements each. Bytes are what is cheap to transpose, so floats are
 * made last and taken first. */
static void transpose_block(const convert *c, const espl__kernels *k, const char *src, char *dst, int rows,
                            int columns) {
    _Alignas(64) char small[SIDE * LONG];
    int last = c->rank - 1;
    int64_t by_row = c->src[last], by_column = c->dst[last - 1];
    if (c->op == CONVERT_COPY) {
        if (c->src_bytes == 1)
            k->transpose_8(src, by_row, dst, by_column, rows, columns);
        else
            k->transpose_32(src, by_row, dst, by_column, rows, columns);
    } else if (c->op == CONVERT_DEQUANTIZE) {
        k->transpose_8(src, by_row, small, LONG, rows, columns);
        for (int i = 0; i < columns; i++) run(c, k, small + i * LONG, dst + i * by_column, rows);
    } else {
        for (int r = 0; r < rows; r++) run(c, k, src + r * by_row, small + r * LONG, columns);
        k->transpose_8(small, LONG, dst, by_column, rows, columns);
    }
}

/* The same for `lines` runs of src that follow each other in every row, each transposed to its own place. */
static void transpose_lines(const convert *c, const espl__kernels *k, const char *src, char *dst, int rows,
                            int lines) {
    _Alignas(64) char small[SIDE * LONG];
    const int last = c->rank - 1, columns = (int)c->dim[last - 1];
    for (int r = 0; r < rows; r++) run(c, k, src + r * c->src[last], small + r * LONG, lines * columns);
    for (int i = 0; i < lines; i++)
        k->transpose_8(small + i * columns, LONG, dst + i * c->dst[last - 2], c->dst[last - 1], rows,
                       columns);
}

/* Bytes before the first line of memory that a row of dst reaches. */
static int64_t head_of(const convert *c, const char *dst) {
    return c->dim[c->rank - 1] < WORTH ? 0 : (int64_t)(-(uintptr_t)dst % LINE) / c->dst_bytes;
}

/* The last three dimensions: lines, along src, along dst. */
static void lines(const convert *c, const espl__kernels *k, const char *src, char *dst) {
    const int last = c->rank - 1;
    const int64_t at_once = LONG / c->dim[last - 1], head = head_of(c, dst);
    for (int64_t i = 0; i < c->dim[last - 2]; i += at_once)
        for (int64_t j = 0, next; j < c->dim[last]; j = next) {
            next = ESPL_MIN(j == 0 && head ? head : j + SIDE, c->dim[last]);
            transpose_lines(c, k, src + i * c->src[last - 2] + j * c->src[last],
                            dst + i * c->dst[last - 2] + j, (int)(next - j),
                            (int)ESPL_MIN(c->dim[last - 2] - i, at_once));
        }
}

/* The last two dimensions: along src, along dst. Blocks begin where a line of dst begins: stores that cross
 * lines cost more than all the rest. */
static void transpose(const convert *c, const espl__kernels *k, const char *src, char *dst) {
    int last = c->rank - 1;
    int64_t rows = c->op == CONVERT_DEQUANTIZE ? LONG : SIDE, columns = LONG + SIDE - rows;
    const int64_t head = head_of(c, dst);
    for (int64_t i = 0; i < c->dim[last - 1]; i += columns)
        for (int64_t j = 0, next; j < c->dim[last]; j = next) {
            next = ESPL_MIN(j == 0 && head ? head : j + rows, c->dim[last]);
            transpose_block(c, k, src + i * c->src_bytes + j * c->src[last],
                            dst + i * c->dst[last - 1] + j * c->dst_bytes, (int)(next - j),
                            (int)ESPL_MIN(c->dim[last - 1] - i, columns));
        }
}

static void innermost(const convert *c, const espl__kernels *k, const char *src, char *dst) {
    _Alignas(64) char small[CHUNK * 8];
    int last = c->rank - 1;
    int64_t n = c->dim[last], ss = c->src[last], ds = c->dst[last];
    if (c->mode == CONVERT_RUNS) {
        run(c, k, src, dst, n);
        return;
    }
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t m = ESPL_MIN(n - i, CHUNK);
        if (c->mode == CONVERT_SCATTER) {
            run(c, k, src + i * ss, small, m);
            spread(small, c->dst_bytes, dst + i * ds, ds, m, c->dst_bytes);
        } else if (ds == c->dst_bytes) {
            spread(src + i * ss, ss, small, c->src_bytes, m, c->src_bytes);
            run(c, k, small, dst + i * ds, m);
        } else {
            for (int64_t j = i; j < i + m; j++) run(c, k, src + j * ss, dst + j * ds, 1);
        }
    }
}

void espl__convert_run(const convert *c, const espl__kernels *k, const char *src, char *dst) {
    int64_t at[ESPL_MAX_RANK] = {0};
    if (c->work == 0) return;
    for (;;) {
        if (c->mode == CONVERT_PLANES)
            planes(c, k, src, dst);
        else if (c->mode == CONVERT_TRANSPOSE)
            transpose(c, k, src, dst);
        else if (c->mode == CONVERT_LINES)
            lines(c, k, src, dst);
        else
            innermost(c, k, src, dst);
        int d = c->rank - (c->mode == CONVERT_PLANES || c->mode == CONVERT_TRANSPOSE ? 3 : 2);
        if (c->mode == CONVERT_LINES) d = c->rank - 4;
        for (; d >= 0; d--) {
            src += c->src[d];
            dst += c->dst[d];
            if (++at[d] < c->dim[d]) break;
            src -= c->src[d] * c->dim[d];
            dst -= c->dst[d] * c->dim[d];
            at[d] = 0;
        }
        if (d < 0) return;
    }
}

typedef struct convert_step {
    step base;
    view src, dst;
    convert c;
} convert_step;

typedef struct convert_job {
    const convert_step *step;
    espl_session *s;
} convert_job;

/* A part of the outermost dimension. */
static void job_part(void *arg, int64_t begin, int64_t end, int thread) {
    const convert_job *j = arg;
    convert part = j->step->c;
    (void)thread;
    part.dim[0] = end - begin;
    espl__convert_run(&part, j->s->kernels, buffer_at(j->s, &j->step->src) + begin * part.src[0],
                      buffer_at(j->s, &j->step->dst) + begin * part.dst[0]);
}

static void run_convert(const step *st, espl_session *s) {
    const convert_step *cs = (const convert_step *)st;
    convert_job job = {cs, s};
    bool whole = cs->c.work < PARALLEL || (cs->c.mode == CONVERT_PLANES && cs->c.rank < 3);
    espl__pool *pool = whole ? NULL : espl__context_pool(s->ctx);
    if (pool)
        espl__parallel_for(pool, cs->c.dim[0], job_part, &job);
    else
        espl__convert_run(&cs->c, s->kernels, buffer_at(s, &cs->src), buffer_at(s, &cs->dst));
}

espl_status espl__plan_convert(espl_session *s, const espl__node *node, const view *src, const view *dst,
                               espl_diag *diag) {
    convert c;
    if (!espl__convert_plan(&c, src, dst))
        return espl__fail(diag, ESPL_INTERNAL, "no conversion from %s to %s", espl_dtype_name(src->type),
                          espl_dtype_name(dst->type));
    convert_step *st = espl__plan_step(s, sizeof *st, node, espl__convert_name(&c), run_convert);
    if (!st) return espl__nomem(diag, sizeof *st);
    st->src = *src;
    st->dst = *dst;
    st->c = c;
    espl__plan_use(s, src->buffer);
    espl__plan_use(s, dst->buffer);
    return ESPL_OK;
}
