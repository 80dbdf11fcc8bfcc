/* Pooling over NHWC rows: kernels see lists of rows of channels, a maximum of few channels whole rows of
 * pixels. */
#include "runtime/lower.h"
#include "ops/ops.h"

#include <math.h>

typedef struct pool_step {
    step base;
    view in, out;
    espl__window g;
    bool max, count_padding;
    bool by_rows;               /* a maximum by whole rows, see rows_max */
    int64_t window;             /* rows of the largest one */
    int64_t row_room, sum_room; /* elements from thread to thread: no line of memory is shared */
    int64_t wide_room;          /* bytes likewise */
    const char **rows;          /* of each thread: pointers of one window */
    int32_t *sums;              /* of each thread: u8 average, one per channel */
    char *wide;                 /* of each thread: two rows of pixels, by_rows */
} pool_step;

enum {
    PARALLEL_BYTES = 1 << 16, /* read by all windows: with less a wake costs more than it gains */
    LINE = 64,                /* bytes of memory that cores pass to each other, and of a vector */
    WIDE_MOST = 1 << 20       /* bytes of a row with its padding, of those done as a whole */
};

typedef struct span {
    int64_t lo, hi;  /* inside the input */
    int64_t counted; /* inside the input and its padding */
} span;

static span window_span(const espl__window *g, int d, int64_t at) {
    int64_t first = at * g->stride[d] - g->begin[d], by = g->dilation[d], lo, hi, none, counted;
    espl__window_valid(first, by, g->in[d], g->kernel[d], &lo, &hi);
    espl__window_valid(first, by, g->in[d] + g->end[d], g->kernel[d], &none, &counted);
    return (span){first + lo * by, first + hi * by, counted};
}

static void average(const pool_step *t, const espl__kernels *k, const char **rows, int count, int64_t divisor,
                    int thread, char *out) {
    int64_t c = t->in.dim[1];
    int32_t *sums = t->sums + thread * t->sum_room;
    if (t->in.type == ESPL_F32) {
        k->sum_f32((const float *const *)(const void *)rows, count, (float *)(void *)out, c);
        for (int64_t i = 0; i < c; i++) ((float *)(void *)out)[i] /= (float)divisor;
        return;
    }
    k->sum_u8((const uint8_t *const *)(const void *)rows, count, sums, c);
    float m = (float)((double)t->in.scale / ((double)t->out.scale * (double)divisor));
    for (int64_t i = 0; i < c; i++)
        ((uint8_t *)out)[i] =
            (uint8_t)espl__requantize((float)(sums[i] - count * t->in.zero) * m, t->out.zero, 0, 255);
}

/* out[i] = max of `count` rows of n elements. */
static void larger_of(const pool_step *t, const espl_session *s, const char *const *rows, int count,
                      char *out, int64_t n) {
    if (t->in.type == ESPL_F32)
        s->kernels->max_f32((const float *const *)(const void *)rows, count, (float *)(void *)out, n);
    else
        s->kernels->max_u8((const uint8_t *const *)(const void *)rows, count, (uint8_t *)out, n);
}

static void one_window(const pool_step *t, const espl_session *s, const char *image, int64_t y, int64_t x,
                       int thread, char *out) {
    span sy = window_span(&t->g, 0, y), sx = window_span(&t->g, 1, x);
    const char **rows = t->rows + thread * t->row_room;
    int count = 0;
    for (int64_t iy = sy.lo; iy < sy.hi; iy += t->g.dilation[0])
        for (int64_t ix = sx.lo; ix < sx.hi; ix += t->g.dilation[1])
            rows[count++] = image + iy * t->in.stride[2] + ix * t->in.stride[3];
    int64_t c = t->in.dim[1];
    if (!t->max)
        average(t, s->kernels, rows, count, t->count_padding ? sy.counted * sx.counted : count, thread, out);
    else
        larger_of(t, s, rows, count, out, c);
}

/* Pixels of a row with its padding that the windows of one row of outputs touch. */
static int64_t wide_pixels(const espl__window *g) {
    return (g->out[1] - 1) * g->stride[1] + (g->kernel[1] - 1) * g->dilation[1] + 1;
}

/* With fewer channels than a vector holds, a maximum of all pixels at once: first down the columns of row y
 * of the outputs, then along the row at every place where a window could begin; of those the stride takes
 * some. Padding is the least there is. */
static void rows_max(const pool_step *t, const espl_session *s, const char *image, int64_t y, int thread,
                     char *out) {
    const espl__window *g = &t->g;
    const int64_t pixel = t->in.stride[3], size = t->in.type == ESPL_F32 ? 4 : 1, wide = wide_pixels(g);
    const int64_t before = ESPL_MIN(g->begin[1], wide), inside = ESPL_MIN(g->in[1], wide - before);
    const char **rows = t->rows + thread * t->row_room;
    char *column = t->wide + thread * t->wide_room, *along = column + wide * pixel;
    span sy = window_span(g, 0, y);
    int count = 0;
    for (int64_t iy = sy.lo; iy < sy.hi; iy += g->dilation[0]) rows[count++] = image + iy * t->in.stride[2];
    larger_of(t, s, rows, count, column + before * pixel, inside * pixel / size);
    for (int64_t k = 0; k < g->kernel[1]; k++) rows[k] = column + k * g->dilation[1] * pixel;
    larger_of(t, s, rows, (int)g->kernel[1], along, ((g->out[1] - 1) * g->stride[1] + 1) * pixel / size);
    for (int64_t x = 0; x < g->out[1]; x++)
        memcpy(out + x * t->out.stride[3], along + x * g->stride[1] * pixel, (size_t)(t->in.dim[1] * size));
}

/* The padding of each thread's row stays as it is from run to run. */
static void fill_padding(const pool_step *t, int64_t threads) {
    const float least = -INFINITY;
    for (int64_t i = 0; i < threads; i++) {
        char *row = t->wide + i * t->wide_room;
        for (int64_t at = 0; at < wide_pixels(&t->g) * t->in.stride[3]; at += 4) /* rooms are whole lines */
            t->in.type == ESPL_F32 ? (void)memcpy(row + at, &least, 4) : (void)memset(row + at, 0, 4);
    }
}

typedef struct pool_job {
    const pool_step *t;
    espl_session *s;
} pool_job;

/* Rows of outputs, of all images. */
static void job_rows(void *arg, int64_t begin, int64_t end, int thread) {
    const pool_job *j = arg;
    const pool_step *t = j->t;
    for (int64_t r = begin; r < end; r++) {
        int64_t n = r / t->out.dim[2], y = r % t->out.dim[2];
        char *out = buffer_at(j->s, &t->out) + n * t->out.stride[0] + y * t->out.stride[2];
        const char *image = buffer_at(j->s, &t->in) + n * t->in.stride[0];
        if (t->by_rows) {
            rows_max(t, j->s, image, y, thread, out);
            continue;
        }
        for (int64_t x = 0; x < t->out.dim[3]; x++, out += t->out.stride[3])
            one_window(t, j->s, image, y, x, thread, out);
    }
}

static void run_pool(const step *st, espl_session *s) {
    const pool_step *t = (const pool_step *)st;
    pool_job job = {t, s};
    int64_t rows = t->out.dim[0] * t->out.dim[2];
    int64_t bytes = rows * t->out.dim[3] * t->window * t->in.stride[3];
    espl__parallel_for(bytes >= PARALLEL_BYTES ? espl__context_pool(s->ctx) : NULL, rows, job_rows, &job);
}

static bool geometry(const espl__node *n, espl__window *g) {
    const espl_shape *x = &n->inputs[0]->shape;
    if (x->rank != 4) return false;
    if (strncmp(n->op->name, "Global", 6) != 0) return espl__window_resolve(n, x, NULL, g, NULL) == ESPL_OK;
    *g = (espl__window){.rank = 2};
    for (int d = 0; d < 2; d++) {
        g->kernel[d] = g->in[d] = x->dim[d + 2];
        g->stride[d] = g->dilation[d] = g->out[d] = 1;
    }
    return true;
}

/* Every window must cover an element, or there is no maximum and no mean. Enormous windows are left to the
 * reference. */
static bool covers(const espl__window *g) {
    enum { MOST = 1 << 20 };
    if (ESPL_MIN(g->kernel[0], g->in[0]) > MOST / ESPL_MAX(ESPL_MIN(g->kernel[1], g->in[1]), 1)) return false;
    for (int d = 0; d < 2; d++)
        for (int64_t i = 0; i < g->out[d]; i++) {
            if (i == MOST) return false;
            span s = window_span(g, d, i);
            if (s.lo >= s.hi) return false;
        }
    return true;
}

/* Room of the threads. */
static espl_status make_room(espl_session *s, pool_step *t, espl_diag *diag) {
    const uint64_t threads = (uint64_t)ESPL_MAX(s->threads, 1);
    t->row_room = ESPL_MAX(t->window, t->by_rows ? t->g.kernel[1] : 0) + LINE / (int64_t)sizeof *t->rows;
    t->sum_room = t->in.dim[1] + LINE / (int64_t)sizeof *t->sums;
    t->rows = espl__arena_alloc(&s->arena, sizeof *t->rows * threads * (uint64_t)t->row_room);
    t->sums = espl__arena_alloc(&s->arena, sizeof *t->sums * threads * (uint64_t)t->sum_room);
    if (!t->rows || !t->sums) return espl__nomem(diag, sizeof *t->rows);
    if (!t->by_rows) return ESPL_OK;
    t->wide_room = (2 * wide_pixels(&t->g) * t->in.stride[3] / LINE + 2) * LINE;
    t->wide = espl__arena_alloc(&s->arena, threads * (uint64_t)t->wide_room);
    if (!t->wide) return espl__nomem(diag, threads * (uint64_t)t->wide_room);
    fill_padding(t, (int64_t)threads);
    return ESPL_OK;
}

espl_status espl__lower_pool(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__window g;
    const espl__value *x = n->inputs[0], *y = n->outputs[0];
    if (x->dtype != ESPL_F32 || n->output_count > 1 || !geometry(n, &g) || espl_shape_count(&y->shape) == 0 ||
        !covers(&g))
        return ESPL_OK;
    *taken = true;
    bool max = strstr(n->op->name, "Max") != NULL;
    float sx, sy;
    int32_t zx, zy;
    bool u8 =
        espl__plan_grid(x, &sx, &zx) && espl__plan_grid(y, &sy, &zy) && (!max || (sx == sy && zx == zy));
    view in, out, final;
    ESPL_TRY(espl__plan_require(s, n, x, u8 ? ESPL_U8 : ESPL_F32, WANT_NHWC, 1, &in, diag));
    ESPL_TRY(espl__plan_store(s, y, u8, &out, &final, diag));
    pool_step *t = espl__plan_step(s, sizeof *t, n,
                                   max ? (u8 ? "max_u8" : "max_f32") : (u8 ? "sum_u8" : "sum_f32"), run_pool);
    if (!t) return espl__nomem(diag, sizeof *t);
    t->in = in;
    t->out = out;
    t->g = g;
    t->max = max;
    t->count_padding = espl__attr_int(n, "count_include_pad", 0) != 0;
    t->base.format = u8 ? "s8" : "f32";
    t->window = ESPL_MIN(g.kernel[0], g.in[0]) * ESPL_MIN(g.kernel[1], g.in[1]);
    t->by_rows = max && in.stride[3] < LINE && wide_pixels(&g) < WIDE_MOST / LINE;
    ESPL_TRY(make_room(s, t, diag));
    espl__plan_use(s, in.buffer);
    espl__plan_use(s, out.buffer);
    ESPL_TRY(espl__plan_finish(s, n, y, &out, &final, diag));
done:
    return status;
}
