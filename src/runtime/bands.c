/* f32 layers around a depthwise convolution, in bands of rows: what one layer makes of a band the next one
 * reads while it is in the second-level cache, and the values between them need no memory but a band's. A
 * network that widens its channels for the depthwise layer and narrows them behind it moves most of its bytes
 * there.
 *
 *   widen   convolution; rows of its output, with their border, go to `rows` of the room
 *   depth   depthwise convolution of them
 *   narrow  1x1 convolution of its output, if there is one
 *
 * Bands overlap where the depthwise kernel does: those rows are moved to the room's beginning and not made
 * again. Every element is computed as the layers alone would. */
#include "runtime/linear.h"

enum {
    WORTH_BYTES = 512 << 10, /* of the widened value of an image; less stays in the cache as it is */
    ROOM_BYTES = 384 << 10,  /* of the part of it that is there at a time */
    ALIGN = 64
};

typedef struct band_step {
    step base;
    const linear_step *widen, *depth, *narrow;
    int64_t images, height, made;     /* rows that depth makes of an image, and widen */
    int64_t rows, bands;              /* of depth's rows in a band; in an image */
    int64_t reach, stride, top;       /* rows of depth's window, of its step, and above the image */
    int64_t row, columns;             /* bytes of a widened row; of its border that depth leaves out */
    int64_t rows_bytes, thread_bytes; /* of the room: its widened rows, and all of it for a thread */
    int room;
} band_step;

typedef struct band_job {
    const band_step *b;
    espl_session *s;
} band_job;

static int64_t pixels_of(const linear_step *l, int64_t rows) {
    return rows * l->pixels;
}

/* Rows [y, end) of the widened value, of which the first lies at `to`; outside of the image they are border.
 */
static void widen(const band_job *j, int64_t image, int64_t y, int64_t end, char *to) {
    const band_step *b = j->b;
    const linear_step *l = b->widen;
    for (; y < end && y < 0; y++, to += b->row) memset(to, 0, (size_t)b->row);
    const int64_t last = ESPL_MIN(end, b->made);
    if (y < last) {
        const char *in = buffer_at(j->s, &l->in) + image * l->in_image + y * l->in_row + l->in_origin;
        espl__linear_call(l, j->s->kernels, in, to + l->out.left * l->out.stride[3], NULL,
                          (int)pixels_of(l, last - y));
        to += (last - y) * b->row;
        y = last;
    }
    if (y < end) memset(to, 0, (size_t)((end - y) * b->row));
}

/* Rows [y, end) of depth's output, whose window begins with the room's first row. */
static void deepen(const band_job *j, int64_t image, int64_t y, int64_t end, const char *rows, char *out) {
    const linear_step *l = j->b->depth;
    if (!j->b->narrow) out = buffer_at(j->s, &l->out) + image * l->out_image + y * l->out_row;
    for (int64_t next; y < end; y = next) {
        next = ESPL_MIN(y + l->band_rows, end);
        espl__linear_call(l, j->s->kernels, rows + j->b->columns, out, NULL, (int)pixels_of(l, next - y));
        rows += (next - y) * l->in_row;
        out += (next - y) * l->out_row;
    }
}

static void narrow(const band_job *j, int64_t image, int64_t y, int64_t end, const char *in) {
    const linear_step *l = j->b->narrow;
    const int64_t first = pixels_of(j->b->depth, image * j->b->height + y);
    char *out = buffer_at(j->s, &l->out) + first * l->p.out_step;
    const char *res = l->has_res ? buffer_at(j->s, &l->res) + first * l->p.res_step : NULL;
    espl__linear_call(l, j->s->kernels, in, out, res, (int)pixels_of(j->b->depth, end - y));
}

/* The border left and right of the rows; nobody writes there again. */
static void clear_sides(const band_step *b, char *rows) {
    const view *v = &b->widen->out;
    const int64_t left = v->left * v->stride[3], right = v->right * v->stride[3];
    for (char *row = rows; row + b->row <= rows + b->rows_bytes; row += b->row) {
        memset(row, 0, (size_t)left);
        memset(row + b->row - right, 0, (size_t)right);
    }
}

/* Bands [begin, end), counted through all images. */
static void job_bands(void *arg, int64_t begin, int64_t end, int thread) {
    const band_job *j = arg;
    const band_step *b = j->b;
    char *rows = (char *)j->s->buffers[b->room].data + thread * b->thread_bytes, *out = rows + b->rows_bytes;
    int64_t there = 0; /* rows of the room that the band before has left */
    clear_sides(b, rows);
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / b->bands, y = i % b->bands * b->rows,
                      y_end = ESPL_MIN(y + b->rows, b->height);
        const int64_t first = y * b->stride - b->top, last = (y_end - 1) * b->stride - b->top + b->reach;
        if (y == 0) there = 0;
        widen(j, image, first + there, last, rows + there * b->row);
        deepen(j, image, y, y_end, rows, out);
        if (b->narrow) narrow(j, image, y, y_end, out);
        const int64_t used = (y_end - y) * b->stride;
        there = ESPL_MAX(last - first - used, 0);
        memmove(rows, rows + used * b->row, (size_t)(there * b->row));
    }
}

static void run_bands(const step *st, espl_session *s) {
    band_job job = {(const band_step *)st, s};
    espl__parallel_for(pool_for(s, st->macs, false), job.b->images * job.b->bands, job_bands, &job);
}

/* --- planning -------------------------------------------------------------------------------- */

static const linear_step *linear_at(const espl_session *s, int i) {
    if (i >= s->step_count || s->steps[i]->run != espl__linear_run) return NULL;
    const linear_step *l = (const linear_step *)s->steps[i];
    const bool sparse = l->p.csr || l->p.bank || l->base.other || l->base.memory;
    return l->u8_in || l->groups != 1 || sparse ? NULL : l;
}

/* The buffer is made by step i and last read by step j. */
static bool only_between(const espl_session *s, const view *v, int i, int j) {
    const buffer *b = &s->buffers[v->buffer];
    return b->kind == BUFFER_WORK && b->first == i && b->last == j;
}

/* Widen and depth, perhaps with the border's step between them, and narrow, from step i on; *end: behind
 * them. */
static bool find(const espl_session *s, int i, band_step *b, int *end) {
    b->widen = linear_at(s, i);
    if (!b->widen || b->widen->depthwise || b->widen->has_res || !b->widen->rows_per_image) return false;
    int at = i + 1;
    if (at + 1 < s->step_count && s->steps[at]->node == s->steps[at + 1]->node) at++;
    b->depth = linear_at(s, at);
    if (!b->depth || !b->depth->depthwise || b->depth->has_res || !b->depth->rows_per_image ||
        b->depth->in.buffer != b->widen->out.buffer || !only_between(s, &b->depth->in, i, at) ||
        b->widen->out.stride[0] < WORTH_BYTES)
        return false;
    *end = at + 1;
    const linear_step *l = linear_at(s, at + 1);
    const view *in = &b->depth->out;
    if (l && !l->depthwise && !l->rows_per_image && l->p.segments == 1 && l->in.buffer == in->buffer &&
        only_between(s, in, at, at + 1) && !(l->has_res && l->res.buffer == in->buffer)) {
        b->narrow = l;
        *end = at + 2;
    }
    return true;
}

/* As many bands as every thread has the same number of, if that comes out even. */
static void measure(band_step *b, int threads) {
    const linear_step *l = b->depth;
    const view *in = &l->in;
    b->images = in->dim[0];
    b->made = in->dim[2];
    b->height = l->rows_per_image;
    b->row = in->stride[2];
    b->reach = l->d.tap_off[l->d.taps - 1] / b->row + 1;
    b->stride = l->in_row / b->row;
    b->top = -l->in_origin / b->row;
    b->columns = in->left * in->stride[3] + l->in_origin + b->top * b->row;
    b->rows = ESPL_MAX((ROOM_BYTES / b->row - b->reach) / b->stride + 1, 1);
    b->bands = ((b->height + b->rows - 1) / b->rows + threads - 1) / threads * threads;
    b->rows = (b->height + b->bands - 1) / b->bands;
    b->bands = (b->height + b->rows - 1) / b->rows;
    b->rows_bytes = ((b->rows - 1) * b->stride + b->reach) * b->row;
    b->rows_bytes = (b->rows_bytes + ALIGN - 1) / ALIGN * ALIGN;
    b->thread_bytes = b->rows_bytes + (b->narrow ? b->rows * l->out_row : 0);
    b->thread_bytes = (b->thread_bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static void unused(espl_session *s, const view *v) {
    s->buffers[v->buffer].first = s->buffers[v->buffer].last = -1;
}

/* Takes the steps (i, end) out of the list; what is used there is used at i. */
static void remove_steps(espl_session *s, int i, int end) {
    const int removed = end - i - 1;
    memmove(s->steps + i + 1, s->steps + end, (size_t)(s->step_count - end) * sizeof *s->steps);
    s->step_count -= removed;
    for (int k = 0; k < s->buffer_count; k++) {
        int *at[] = {&s->buffers[k].first, &s->buffers[k].last};
        for (int e = 0; e < 2; e++)
            if (*at[e] > i) *at[e] = *at[e] < end ? i : *at[e] - removed;
    }
}

static espl_status join(espl_session *s, int i, int end, const band_step *found, espl_diag *diag) {
    band_step *b = espl__arena_alloc(&s->arena, sizeof *b);
    if (!b) return espl__nomem(diag, sizeof *b);
    *b = *found;
    measure(b, s->threads);
    b->base = s->steps[end - 1][0];
    b->base.run = run_bands;
    for (int k = i; k < end - 1; k++) {
        b->base.macs += s->steps[k]->macs;
        b->base.weight_bytes += s->steps[k]->weight_bytes;
        b->base.activation_bytes += s->steps[k]->activation_bytes;
    }
    const uint64_t bytes = (uint64_t)b->thread_bytes * (uint64_t)s->threads;
    b->room = espl__plan_buffer(s, BUFFER_WORK, bytes);
    if (b->room < 0) return espl__nomem(diag, bytes);
    unused(s, &b->depth->in);
    if (b->narrow) unused(s, &b->narrow->in);
    s->steps[i] = &b->base;
    remove_steps(s, i, end);
    s->buffers[b->room].first = s->buffers[b->room].last = i;
    return ESPL_OK;
}

espl_status espl__lower_bands(espl_session *s, espl_diag *diag) {
    for (int i = 0; i < s->step_count; i++) {
        band_step b = {0};
        int end;
        if (!find(s, i, &b, &end)) continue;
        espl_status status = join(s, i, end, &b, diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}
