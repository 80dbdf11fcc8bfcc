#include "train/feed.h"

#include <inttypes.h>
#include <stdio.h>

/* The output that becomes this input in the next batch, -1 if it is no state. */
static int next_of(const espl_graph *g, const espl__value *input) {
    size_t n = strlen(input->name);
    for (int i = 0; i < g->output_count; i++) {
        const char *name = g->outputs[i]->name;
        if (strncmp(name, input->name, n) == 0 && strcmp(name + n, ".next") == 0) return i;
    }
    return -1;
}

static bool is_next(const char *name) {
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".next") == 0;
}

/* Array of the data set: by name, else the one in the same place. */
static int array_of(const espl_dataset *data, const char *name, int place) {
    for (int j = 0; j < espl_dataset_inputs(data); j++)
        if (strcmp(espl_dataset_input_name(data, j), name) == 0) return j;
    return place < espl_dataset_inputs(data) ? place : -1;
}

static espl_status misfit(const espl_graph *g, const espl__value *v, const espl_dataset *data,
                          const espl_shape *sample, espl_diag *diag) {
    char want[128], have[128];
    return espl__fail(diag, ESPL_SHAPE, "%s: input '%s' is %s %s; a sample of the data (%s) is %s", g->file,
                      v->name, espl_dtype_name(v->dtype), espl_shape_text(&v->shape, want, sizeof want),
                      espl_dataset_describe(data), espl_shape_text(sample, have, sizeof have));
}

/* The batch stands first; then the sample, as the network shapes it or, where it does not say, as it is. */
static espl_status shape_samples(const espl_graph *g, const espl__value *v, const espl_dataset *data,
                                 int array, int64_t batch, espl_shape *out, espl_diag *diag) {
    espl_shape sample = espl_dataset_shape(data, array), s = {sample.rank + 1, {batch}};
    for (int d = 0; d < sample.rank && d + 1 < ESPL_MAX_RANK; d++) s.dim[d + 1] = sample.dim[d];
    if (v->known_rank && v->shape.rank != s.rank) s = v->shape;
    if (v->known_rank && s.rank > 0) {
        if (v->shape.dim[0] > 0 && v->shape.dim[0] != batch)
            return espl__fail(
                diag, ESPL_SHAPE,
                "%s: input '%s' is made for a batch of %" PRId64 ", not of %" PRId64
                "; give that as the batch, or export the model with a batch dimension that is not fixed",
                g->file, v->name, v->shape.dim[0], batch);
        s.dim[0] = batch;
        for (int d = 1; d < s.rank; d++)
            if (v->shape.dim[d] >= 0 && v->shape.dim[d] != s.dim[d]) return misfit(g, v, data, &sample, diag);
    }
    if (s.rank < 1 || espl_shape_count(&s) != batch * espl_shape_count(&sample))
        return misfit(g, v, data, &sample, diag);
    *out = s;
    return ESPL_OK;
}

static espl_status shape_tokens(const espl_graph *g, const espl__value *v, int64_t batch, int64_t sequence,
                                espl_shape *out, espl_diag *diag) {
    char text[128];
    espl_shape s = {2, {sequence, batch}};
    bool fits = v->dtype == ESPL_S64 && (!v->known_rank || v->shape.rank == 2);
    for (int d = 0; fits && v->known_rank && d < 2; d++)
        fits = v->shape.dim[d] < 0 || v->shape.dim[d] == s.dim[d];
    if (!fits)
        return espl__fail(diag, ESPL_SHAPE,
                          "%s: input '%s' is %s %s; text gives s64, %" PRId64 " tokens x %" PRId64 " columns",
                          g->file, v->name, espl_dtype_name(v->dtype),
                          espl_shape_text(&v->shape, text, sizeof text), sequence, batch);
    *out = s;
    return ESPL_OK;
}

/* A state's dimension that is not known is the batch. */
static espl_status make_state(espl__train_feed *f, const espl_graph *g, int i, int64_t batch,
                              espl_diag *diag) {
    const espl__value *v = g->inputs[i];
    espl_shape *s = &f->shapes[i];
    *s = v->shape;
    for (int d = 0; d < s->rank; d++)
        if (s->dim[d] < 0) s->dim[d] = batch;
    if (!v->known_rank || v->dtype != ESPL_F32)
        return espl__fail(diag, ESPL_SHAPE, "%s: the state '%s' must be f32 of a known shape", g->file,
                          v->name);
    f->input[i].source = ESPL__TRAIN_FEED_STATE;
    f->input[i].bytes = (size_t)espl_shape_count(s) * espl_dtype_bytes(f->real);
    f->input[i].state = espl__calloc(f->ctx, f->input[i].bytes + 1, 1);
    f->states++;
    return f->input[i].state ? ESPL_OK : espl__nomem(diag, f->input[i].bytes);
}

static espl_status bind(espl__train_feed *f, const espl_graph *g, const espl_dataset *data, int64_t batch,
                        int64_t sequence, espl_diag *diag) {
    int place = 0;
    for (int i = 0; i < g->input_count; i++) {
        const espl__value *v = g->inputs[i];
        espl__train_feed_input *in = &f->input[i];
        espl_status status;
        in->next = next_of(g, v);
        if (in->next >= 0) {
            status = make_state(f, g, i, batch, diag);
        } else if (sequence > 0) {
            in->source = ESPL__TRAIN_FEED_TOKENS;
            status = shape_tokens(g, v, batch, sequence, &f->shapes[i], diag);
        } else {
            in->source = array_of(data, v->name, place++);
            if (in->source < 0)
                return espl__fail(diag, ESPL_SHAPE, "%s: nothing in the data (%s) feeds the input '%s'",
                                  g->file, espl_dataset_describe(data), v->name);
            status = shape_samples(g, v, data, in->source, batch, &f->shapes[i], diag);
        }
        if (status != ESPL_OK) return status;
    }
    f->output = -1;
    for (int i = g->output_count - 1; i >= 0; i--)
        if (!is_next(g->outputs[i]->name)) f->output = i;
    return f->output >= 0 ? ESPL_OK
                          : espl__fail(diag, ESPL_INVALID, "%s: has no output but its state", g->file);
}

espl_status espl__train_feed_create(espl_context *ctx, const espl_graph *g, const espl_dataset *data,
                                    int64_t batch, int64_t sequence, espl_dtype real, espl__train_feed *out,
                                    espl_diag *diag) {
    *out = (espl__train_feed){.ctx = ctx, .real = real, .inputs = g->input_count};
    out->input = espl__calloc(ctx, (uint64_t)g->input_count + 1, sizeof *out->input);
    out->shapes = espl__calloc(ctx, (uint64_t)g->input_count + 1, sizeof *out->shapes);
    if (!out->input || !out->shapes) return espl__nomem(diag, sizeof *out->input);
    return bind(out, g, data, batch, sequence, diag);
}

void espl__train_feed_free(espl__train_feed *f) {
    for (int i = 0; f->input && i < f->inputs; i++) espl__free(f->ctx, f->input[i].state);
    if (f->ctx) {
        espl__free(f->ctx, f->input);
        espl__free(f->ctx, f->shapes);
    }
    *f = (espl__train_feed){0};
}

void espl__train_feed_batch(const espl__train_feed *f, espl__engine *engine, const espl__batch *batch) {
    for (int i = 0; i < f->inputs; i++) {
        const espl__train_feed_input *in = &f->input[i];
        if (in->source == ESPL__TRAIN_FEED_STATE)
            espl__engine_set_input(engine, i, in->state, f->real);
        else if (in->source == ESPL__TRAIN_FEED_TOKENS)
            espl__engine_set_input(engine, i, batch->tokens, ESPL_S64);
        else
            espl__engine_set_input(engine, i, batch->input[in->source], ESPL_F32);
    }
}

espl_tensor espl__train_feed_gradient(const espl__train_feed *f, const espl__engine *engine) {
    for (int i = 0; i < espl__engine_outputs(engine); i++) {
        espl_tensor other = espl__engine_output_gradient(engine, i);
        if (i != f->output && other.data) memset(other.data, 0, espl__tensor_bytes(&other));
    }
    return espl__engine_output_gradient(engine, f->output);
}

espl_status espl__train_feed_check(const espl__train_feed *f, const espl_graph *g, const espl__engine *engine,
                                   espl_diag *diag) {
    for (int i = 0; i < f->inputs; i++) {
        if (f->input[i].source != ESPL__TRAIN_FEED_STATE) continue;
        espl_tensor next = espl__engine_output(engine, f->input[i].next);
        if (next.dtype == f->real && espl_shape_equal(&next.shape, &f->shapes[i])) continue;
        return espl__fail(diag, ESPL_SHAPE,
                          "%s: the state '%s' comes back in another shape or type; '%s' must be as it is",
                          g->file, g->inputs[i]->name, g->outputs[f->input[i].next]->name);
    }
    return ESPL_OK;
}

void espl__train_feed_carry(espl__train_feed *f, const espl__engine *engine) {
    for (int i = 0; i < f->inputs; i++)
        if (f->input[i].source == ESPL__TRAIN_FEED_STATE)
            memcpy(f->input[i].state, espl__engine_output(engine, f->input[i].next).data, f->input[i].bytes);
}

void espl__train_feed_reset(espl__train_feed *f) {
    for (int i = 0; i < f->inputs; i++)
        if (f->input[i].source == ESPL__TRAIN_FEED_STATE) memset(f->input[i].state, 0, f->input[i].bytes);
}
