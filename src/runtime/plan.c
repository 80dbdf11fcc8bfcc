/* Views, buffers, forms of values, and the memory plan. */
#include "runtime/lower.h"
#include "runtime/convert.h"
#include "passes/passes.h"

#include <inttypes.h>
#include <stdlib.h>

/* Kernels may read a few bytes past a row's last group; every buffer has this much to spare. */
enum { SLACK = 64, ALIGN = 64 };

/* --- views ---------------------------------------------------------------------------------- */

bool espl__plan_grid(const espl__value *value, float *scale, int32_t *zero) {
    const espl__quant *q = &value->quant;
    if ((q->format != ESPL_FORMAT_U8 && q->format != ESPL_FORMAT_S8) || q->count != 1) return false;
    *scale = q->scale[0];
    *zero = (q->zero ? q->zero[0] : 0) + (q->format == ESPL_FORMAT_S8 ? 128 : 0);
    return true;
}

view espl__view_rows(const espl_shape *shape, espl_dtype type, int64_t cs) {
    view v = {.buffer = -1, .type = type, .rank = shape->rank};
    int64_t stride = (int64_t)espl_dtype_bytes(type);
    for (int d = shape->rank - 1; d >= 0; d--) {
        v.dim[d] = shape->dim[d];
        v.stride[d] = stride;
        stride *= d == shape->rank - 1 && cs > 0 ? cs : shape->dim[d];
    }
    v.cs = shape->rank ? (cs > 0 ? cs : shape->dim[shape->rank - 1]) : 1;
    return v;
}

view espl__view_nhwc(const espl_shape *shape, espl_dtype type, const int halo[4]) {
    view v = {.buffer = -1, .type = type, .rank = 4, .nhwc = true};
    int64_t bytes = (int64_t)espl_dtype_bytes(type), c = shape->dim[1];
    v.top = halo[0];
    v.left = halo[1];
    v.bottom = halo[2];
    v.right = halo[3];
    v.cs = type == ESPL_U8 ? (c + 3) / 4 * 4 : c;
    for (int d = 0; d < 4; d++) v.dim[d] = shape->dim[d];
    v.stride[1] = bytes;
    v.stride[3] = v.cs * bytes;
    v.stride[2] = v.stride[3] * (v.dim[3] + v.left + v.right);
    v.stride[0] = v.stride[2] * (v.dim[2] + v.top + v.bottom);
    v.offset = v.top * v.stride[2] + v.left * v.stride[3];
    return v;
}

uint64_t espl__view_bytes(const view *v) {
    if (v->nhwc) return (uint64_t)(v->dim[0] * v->stride[0]);
    uint64_t bytes = espl_dtype_bytes(v->type) * (uint64_t)(v->rank ? v->cs : 1);
    for (int d = 0; d + 1 < v->rank; d++) bytes *= (uint64_t)v->dim[d];
    return bytes;
}

bool espl__view_is_dense(const view *v) {
    int64_t stride = (int64_t)espl_dtype_bytes(v->type);
    for (int d = v->rank - 1; d >= 0; d--) {
        if (v->dim[d] != 1 && v->stride[d] != stride) return false;
        stride *= v->dim[d];
    }
    return true;
}

bool espl__view_same_layout(const view *a, const view *b) {
    if (a->rank != b->rank || a->type != b->type) return false;
    for (int d = 0; d < a->rank; d++)
        if (a->dim[d] != b->dim[d] || (a->dim[d] != 1 && a->stride[d] != b->stride[d])) return false;
    return true;
}

/* --- buffers and steps ------------------------------------------------------------------------ */

int espl__plan_buffer(espl_session *s, buffer_kind kind, uint64_t bytes) {
    if (s->buffer_count == s->buffer_capacity) {
        int more = s->buffer_capacity ? s->buffer_capacity * 2 : 64;
        buffer *b = espl__realloc(s->ctx, s->buffers, sizeof *b * (uint64_t)s->buffer_count,
                                  sizeof *b * (uint64_t)more);
        if (!b) return -1;
        s->buffers = b;
        s->buffer_capacity = more;
    }
    s->buffers[s->buffer_count] =
        (buffer){.kind = kind, .bytes = (bytes + SLACK + ALIGN - 1) / ALIGN * ALIGN, .first = -1, .last = -1};
    return s->buffer_count++;
}

int espl__plan_constant(espl_session *s, const void *data, uint64_t bytes) {
    int b = espl__plan_buffer(s, BUFFER_CONST, bytes);
    if (b >= 0) s->buffers[b].data = (void *)data;
    return b;
}

void *espl__plan_step(espl_session *s, size_t size, const espl__node *node, const char *kernel,
                      void (*run)(const step *, espl_session *)) {
    step *st = espl__arena_alloc(&s->arena, size);
    if (!st) return NULL;
    if (s->step_count == s->step_capacity) {
        int more = s->step_capacity ? s->step_capacity * 2 : 64;
        step **list = espl__realloc(s->ctx, s->steps, sizeof *list * (uint64_t)s->step_count,
                                    sizeof *list * (uint64_t)more);
        if (!list) return NULL;
        s->steps = list;
        s->step_capacity = more;
    }
    st->run = run;
    st->kernel = kernel;
    st->node = node;
    st->format = "f32";
    s->steps[s->step_count++] = st;
    return st;
}

void *espl__plan_weights(espl_session *s, uint64_t bytes) {
    void *p = espl__arena_alloc(&s->arena, bytes + SLACK);
    if (p) s->weight_bytes += bytes;
    return p;
}

static void *hold(espl_session *s, uint64_t bytes) {
    held *h = espl__arena_alloc(&s->arena, sizeof *h);
    if (!h || !(h->data = espl__alloc(s->ctx, bytes))) return NULL;
    h->bytes = bytes - SLACK;
    h->next = *s->hold;
    *s->hold = h;
    return h->data;
}

void espl__plan_release(espl_session *s, held **list) {
    for (; *list; *list = (*list)->next) {
        espl__free(s->ctx, (*list)->data);
        s->weight_bytes -= (*list)->bytes;
    }
}

void *espl__plan_packed(espl_session *s, uint64_t bytes) {
    char *p = s->hold ? hold(s, bytes + SLACK) : espl__arena_raw(&s->arena, bytes + SLACK);
    if (!p) return NULL;
    memset(p + bytes, 0, SLACK);
    s->weight_bytes += bytes;
    return p;
}

espl_status espl__plan_settle(espl_session *s, espl_diag *diag) {
    for (int i = 0; i < s->buffer_count; i++) {
        buffer *b = &s->buffers[i];
        if (!b->lent) continue;
        const espl_tensor *t = b->lent->constant;
        uint64_t bytes = espl__tensor_bytes(t);
        b->data = NULL;
        if (b->first >= 0) {
            b->data = espl__plan_packed(s, bytes);
            if (!b->data) return espl__nomem(diag, bytes);
            memcpy(b->data, t->data, bytes);
        }
        s->graph->values[b->lent->id]->lent = false;
        b->lent->constant->data = b->data; /* the step's reference may look at it there */
    }
    espl__graph_unlend(s->graph);
    return ESPL_OK;
}

void espl__plan_use(espl_session *s, int index) {
    buffer *b = &s->buffers[index];
    int now = s->step_count - 1;
    if (b->first < 0) b->first = now;
    b->last = now;
    s->steps[now]->activation_bytes += b->bytes;
}

/* Greedy by size: each buffer takes the lowest place that no buffer living at the same time covers. */
espl_status espl__plan_memory(espl_session *s, espl_diag *diag) {
    espl__span *spans = espl__calloc(s->ctx, (uint64_t)s->buffer_count + 1, sizeof *spans);
    if (!spans) return espl__nomem(diag, sizeof *spans);
    int count = 0;
    for (int i = 0; i < s->buffer_count; i++) {
        const buffer *b = &s->buffers[i];
        if (b->kind == BUFFER_WORK && b->first >= 0) spans[count++] = (espl__span){b->bytes, 0, b->first, b->last};
    }
    /* Shapes are numbers from a file: too much memory is its fault. Below the limit no sum can overflow. */
    uint64_t total = 0, most = ESPL_MIN(espl__max_alloc(s->ctx), (uint64_t)1 << 44);
    espl_status status = espl__place(s->ctx, spans, count, most, &total, diag);
    count = 0;
    for (int i = 0; i < s->buffer_count; i++) {
        buffer *b = &s->buffers[i];
        if (b->kind == BUFFER_WORK && b->first >= 0) b->offset = spans[count++].offset;
    }
    espl__free(s->ctx, spans);
    if (status != ESPL_OK) return status;
    if (total > most)
        return espl__fail(diag, ESPL_LIMIT,
                          "%s: needs %" PRIu64 " MiB or more for activations, and %" PRIu64
                          " MiB are allowed",
                          s->graph->file[0] ? s->graph->file : "the network", (total >> 20) + 1, most >> 20);
    s->workspace = espl__alloc(s->ctx, total + SLACK);
    if (!s->workspace) return espl__nomem(diag, total);
    /* Padding channels are never read for their value, but a defined start keeps every run the same to the
     * byte. */
    memset(s->workspace, 0, total + SLACK);
    s->workspace_bytes = total;
    for (int i = 0; i < s->buffer_count; i++)
        if (s->buffers[i].kind == BUFFER_WORK) s->buffers[i].data = s->workspace + s->buffers[i].offset;
    return ESPL_OK;
}

/* --- forms ------------------------------------------------------------------------------------ */

espl_status espl__plan_produce(espl_session *s, const espl__value *value, const view *v, espl_diag *diag) {
    form *f = espl__arena_alloc(&s->arena, sizeof *f);
    if (!f) return espl__nomem(diag, sizeof *f);
    f->v = *v;
    form **end = &s->forms[value->id];
    while (*end) end = &(*end)->next;
    *end = f;
    return ESPL_OK;
}

static void set_grid(const espl__value *value, view *v) {
    if (v->type == ESPL_U8 && value->dtype == ESPL_F32)
        v->quantized = espl__plan_grid(value, &v->scale, &v->zero);
}

static view wanted_view(const espl_session *s, const espl__value *value, espl_dtype type, bool nhwc,
                        int multiple) {
    view v;
    if (nhwc && value->shape.rank == 4) {
        v = espl__view_nhwc(&value->shape, type, s->halos[value->id]);
    } else {
        int64_t last = value->shape.rank ? value->shape.dim[value->shape.rank - 1] : 1;
        v = espl__view_rows(&value->shape, type, (last + multiple - 1) / multiple * multiple);
    }
    set_grid(value, &v);
    return v;
}

static int output_index(const espl_session *s, const espl__value *value) {
    int found = -1;
    for (int i = 0; i < s->graph->output_count; i++)
        if (s->graph->outputs[i] == value) found = i;
    return found;
}

espl_status espl__plan_output(espl_session *s, const espl__value *value, espl_dtype type, view *out,
                              espl_diag *diag) {
    int index = output_index(s, value);
    *out = wanted_view(s, value, type, s->spatial[value->id], 1);
    if (index >= 0 && !espl__is_quantized(value) && !out->nhwc && type == value->dtype) {
        out->buffer = espl__plan_buffer(s, BUFFER_OUTPUT, espl__view_bytes(out));
        if (out->buffer >= 0) s->buffers[out->buffer].index = index;
    } else {
        out->buffer = espl__plan_buffer(s, BUFFER_WORK, espl__view_bytes(out));
    }
    return out->buffer < 0 ? espl__nomem(diag, espl__view_bytes(out)) : ESPL_OK;
}

espl_status espl__plan_store(espl_session *s, const espl__value *value, bool rounds_itself, view *out,
                             view *final, espl_diag *diag) {
    static const int no_halo[4];
    espl_status status = espl__plan_output(s, value, espl__plan_store_type(value), final, diag);
    *out = *final;
    if (status != ESPL_OK || rounds_itself || !final->quantized) return status;
    *out = final->nhwc ? espl__view_nhwc(&value->shape, ESPL_F32, no_halo)
                       : espl__view_rows(&value->shape, ESPL_F32, 0);
    out->buffer = espl__plan_buffer(s, BUFFER_WORK, espl__view_bytes(out));
    return out->buffer < 0 ? espl__nomem(diag, espl__view_bytes(out)) : ESPL_OK;
}

espl_status espl__plan_finish(espl_session *s, const espl__node *node, const espl__value *value,
                              const view *out, const view *final, espl_diag *diag) {
    espl_status status =
        out->buffer == final->buffer ? ESPL_OK : espl__plan_convert(s, node, out, final, diag);
    return status == ESPL_OK ? espl__plan_produce(s, value, final, diag) : status;
}

/* Row after row, with room for cs elements each. */
static bool in_rows(const view *v) {
    int64_t stride = (int64_t)espl_dtype_bytes(v->type);
    for (int d = v->rank - 1; d >= 0; d--) {
        if (v->dim[d] != 1 && v->stride[d] != stride) return false;
        stride *= d == v->rank - 1 ? v->cs : v->dim[d];
    }
    return true;
}

static bool form_fits(const view *v, espl_dtype type, want layout, int multiple) {
    if (v->type != type) return false;
    if (layout == WANT_ANY) return true;
    if (layout == WANT_NHWC) return v->nhwc;
    if (espl__view_is_dense(v)) return v->rank == 0 || v->dim[v->rank - 1] % multiple == 0;
    return !v->nhwc && v->rank > 0 && v->cs % multiple == 0 && multiple > 1 && in_rows(v);
}

/* The first form of a constant. */
static espl_status constant_form(espl_session *s, const espl__value *value, espl_diag *diag) {
    const espl_tensor *t = value->constant;
    float scale;
    int32_t zero;
    view v = espl__view_rows(&t->shape, t->dtype, 0);
    const void *data = t->data;
    if (espl__is_quantized(value) && espl__plan_grid(value, &scale, &zero)) {
        v.type = ESPL_U8;
        set_grid(value, &v);
        int64_t count = espl_shape_count(&t->shape);
        uint8_t *codes = espl__arena_alloc(&s->arena, (uint64_t)count + 1);
        if (!codes) return espl__nomem(diag, (uint64_t)count);
        uint8_t flip = t->dtype == ESPL_S8 ? 0x80 : 0;
        for (int64_t i = 0; i < count; i++) codes[i] = ((const uint8_t *)t->data)[i] ^ flip;
        data = codes;
    } else if (espl__is_quantized(value)) {
        const espl_tensor *f = espl__constant_f32(s->graph, value);
        if (!f) return espl__nomem(diag, espl__tensor_bytes(t));
        v = espl__view_rows(&f->shape, ESPL_F32, 0);
        data = f->data;
    }
    v.buffer = espl__plan_constant(s, data, espl__view_bytes(&v));
    if (v.buffer < 0) return espl__nomem(diag, sizeof v);
    if (value->lent && data == t->data) s->buffers[v.buffer].lent = value;
    return espl__plan_produce(s, value, &v, diag);
}

espl_status espl__plan_require(espl_session *s, const espl__node *reader, const espl__value *value,
                               espl_dtype type, want layout, int multiple, view *out, espl_diag *diag) {
    espl_status status;
    if (!s->forms[value->id] && value->constant) {
        status = constant_form(s, value, diag);
        if (status != ESPL_OK) return status;
    }
    if (!s->forms[value->id])
        return espl__fail(diag, ESPL_INTERNAL, "value '%s' is read before it exists", value->name);
    for (form *f = s->forms[value->id]; f; f = f->next)
        if (form_fits(&f->v, type, layout, multiple)) {
            *out = f->v;
            return ESPL_OK;
        }
    const view *src = &s->forms[value->id]->v;
    for (form *f = s->forms[value->id]; f; f = f->next)
        if (f->v.type == type) src = &f->v;
    bool nhwc = layout == WANT_NHWC || (layout == WANT_ANY && src->nhwc);
    *out = wanted_view(s, value, type, nhwc, multiple);
    view from = *src;
    if (s->buffers[from.buffer].kind == BUFFER_CONST) {
        void *data = espl__arena_alloc(&s->arena, espl__view_bytes(out) + SLACK);
        if (!data || (out->buffer = espl__plan_constant(s, data, espl__view_bytes(out))) < 0)
            return espl__nomem(diag, espl__view_bytes(out));
        convert c;
        if (!espl__convert_plan(&c, &from, out))
            return espl__fail(diag, ESPL_INTERNAL, "constant '%s': no conversion", value->name);
        espl__convert_run(&c, s->kernels, buffer_at(s, &from), buffer_at(s, out));
        return espl__plan_produce(s, value, out, diag);
    }
    out->buffer = espl__plan_buffer(s, BUFFER_WORK, espl__view_bytes(out));
    if (out->buffer < 0) return espl__nomem(diag, espl__view_bytes(out));
    status = espl__plan_convert(s, reader, &from, out, diag);
    return status == ESPL_OK ? espl__plan_produce(s, value, out, diag) : status;
}

/* --- halo and fill -------------------------------------------------------------------------- */

typedef struct halo_step {
    step base;
    view v;
    uint32_t word; /* the fill, four elements of u8 or one f32 */
} halo_step;

static void fill_words(char *p, uint32_t word, int64_t bytes) {
    if (word == (word & 0xFFu) * 0x01010101u) { /* the C library's has wider stores */
        memset(p, (int)(word & 0xFFu), (size_t)bytes);
        return;
    }
    int64_t i = 0;
    for (; i + 4 <= bytes; i += 4) memcpy(p + i, &word, 4);
    if (i < bytes) memcpy(p + i, &word, (size_t)(bytes - i));
}

static void run_halo(const step *st, espl_session *s) {
    const halo_step *h = (const halo_step *)st;
    const view *v = &h->v;
    int64_t pixel = v->stride[3], left = v->left * pixel, right = v->right * pixel, row = v->stride[2];
    for (int64_t n = 0; n < v->dim[0]; n++) {
        char *image = buffer_at(s, v) + n * v->stride[0] - left; /* first stored byte of row 0 */
        fill_words(image - v->top * row, h->word, v->top * row);
        for (int64_t y = 0; y < v->dim[2]; y++) {
            if (left) fill_words(image + y * row, h->word, left);
            if (right) fill_words(image + y * row + left + v->dim[3] * pixel, h->word, right);
        }
        fill_words(image + v->dim[2] * row, h->word, v->bottom * row);
    }
}

espl_status espl__plan_fill_halo(espl_session *s, const espl__node *reader, const espl__value *value,
                                 const view *v, espl_diag *diag) {
    if (v->top + v->left + v->bottom + v->right == 0) return ESPL_OK;
    for (form *f = s->forms[value->id]; f; f = f->next) {
        if (f->v.buffer != v->buffer || f->v.offset != v->offset) continue;
        if (f->halo_filled) return ESPL_OK;
        f->halo_filled = true;
    }
    halo_step probe = {.v = *v, .word = v->quantized ? (uint32_t)v->zero * 0x01010101u : 0};
    if (s->buffers[v->buffer].kind == BUFFER_CONST) {
        run_halo(&probe.base, s);
        return ESPL_OK;
    }
    halo_step *h = espl__plan_step(s, sizeof *h, reader, "halo", run_halo);
    if (!h) return espl__nomem(diag, sizeof *h);
    h->v = probe.v;
    h->word = probe.word;
    espl__plan_use(s, v->buffer);
    return ESPL_OK;
}

typedef struct fill_step {
    step base;
    view v;
    uint32_t word;
    int64_t bytes;
} fill_step;

static void run_fill(const step *st, espl_session *s) {
    const fill_step *f = (const fill_step *)st;
    fill_words(s->buffers[f->v.buffer].data, f->word, f->bytes);
}

espl_status espl__plan_fill(espl_session *s, const espl__node *node, const view *v, float value,
                            espl_diag *diag) {
    fill_step *f = espl__plan_step(s, sizeof *f, node, "fill", run_fill);
    if (!f) return espl__nomem(diag, sizeof *f);
    f->v = *v;
    f->bytes = (int64_t)espl__view_bytes(v);
    if (v->quantized)
        f->word = (uint32_t)espl__requantize(value / v->scale, v->zero, 0, 255) * 0x01010101u;
    else
        memcpy(&f->word, &value, 4);
    espl__plan_use(s, v->buffer);
    return ESPL_OK;
}
