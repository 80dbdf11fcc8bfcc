/* Pooling over NHWC rows: kernels see lists of rows of channels. */
#include "runtime/lower.h"
#include "ops/ops.h"

typedef struct pool_step {
    step base;
    view in, out;
    espl__window g;
    bool max, count_padding;
    int64_t window;             /* rows of the largest one */
    int64_t row_room, sum_room; /* elements from thread to thread: no line of memory is shared */
    const char **rows;          /* of each thread: pointers of one window */
    int32_t *sums;              /* of each thread: u8 average, one per channel */
} pool_step;

enum {
    PARALLEL_BYTES = 1 << 16, /* read by all windows: with less a wake costs more than it gains */
    LINE = 64                 /* bytes of memory that cores pass to each other */
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
    else if (t->in.type == ESPL_F32)
        s->kernels->max_f32((const float *const *)(const void *)rows, count, (float *)(void *)out, c);
    else
        s->kernels->max_u8((const uint8_t *const *)(const void *)rows, count, (uint8_t *)out, c);
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
        for (int64_t x = 0; x < t->out.dim[3]; x++, out += t->out.stride[3])
            one_window(t, j->s, buffer_at(j->s, &t->in) + n * t->in.stride[0], y, x, thread, out);
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
    t->row_room = t->window + LINE / (int64_t)sizeof *t->rows;
    t->sum_room = x->shape.dim[1] + LINE / (int64_t)sizeof *t->sums;
    uint64_t threads = (uint64_t)ESPL_MAX(s->threads, 1);
    t->rows = espl__arena_alloc(&s->arena, sizeof *t->rows * threads * (uint64_t)t->row_room);
    t->sums = espl__arena_alloc(&s->arena, sizeof *t->sums * threads * (uint64_t)t->sum_room);
    if (!t->rows || !t->sums) return espl__nomem(diag, sizeof *t->rows);
    espl__plan_use(s, in.buffer);
    espl__plan_use(s, out.buffer);
    ESPL_TRY(espl__plan_finish(s, n, y, &out, &final, diag));
done:
    return status;
}
