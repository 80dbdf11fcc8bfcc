#include "compress/feed.h"

#include <inttypes.h>
#include <stdio.h>

/* --- pairing ------------------------------------------------------------------------------------------ */

/* An output whose shape only a run tells is the session's. */
static bool owned(const espl_tensor *info) {
    return info->shape.rank >= 0 && espl_shape_count(&info->shape) >= 0;
}

static bool is_half(espl_dtype dtype) { return dtype == ESPL_F16 || dtype == ESPL_BF16; }

/* A tensor as everyone here sees it, and as the session does. */
static espl_status make_pair(espl_context *ctx, const espl_tensor *t, espl_tensor *seen, espl_tensor *raw,
                             espl_diag *diag) {
    bool half = is_half(t->dtype);
    espl_status status = espl_tensor_alloc(ctx, half ? ESPL_F32 : t->dtype, &t->shape, seen, diag);
    if (status != ESPL_OK) return status;
    memset(seen->data, 0, espl__tensor_bytes(seen));
    *raw = *seen;
    if (!half) return ESPL_OK;
    *raw = (espl_tensor){0};
    return espl_tensor_alloc(ctx, t->dtype, &t->shape, raw, diag);
}

static espl_status make_buffers(espl__feed *f, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_context *ctx = f->ctx;
    int in = espl_session_input_count(f->session), out = espl_session_output_count(f->session);
    f->inputs = espl__calloc(ctx, (uint64_t)in + 1, sizeof *f->inputs);
    f->outputs = espl__calloc(ctx, (uint64_t)out + 1, sizeof *f->outputs);
    f->raw_inputs = espl__calloc(ctx, (uint64_t)in + 1, sizeof *f->raw_inputs);
    f->raw_outputs = espl__calloc(ctx, (uint64_t)out + 1, sizeof *f->raw_outputs);
    f->source = espl__calloc(ctx, (uint64_t)in + 1, sizeof *f->source);
    f->next = espl__calloc(ctx, (uint64_t)in + 1, sizeof *f->next);
    if (!f->inputs || !f->outputs || !f->raw_inputs || !f->raw_outputs || !f->source || !f->next)
        return espl__nomem(diag, sizeof *f->inputs);
    for (int i = 0; i < in; i++)
        ESPL_TRY(make_pair(ctx, espl_session_input_info(f->session, i), &f->inputs[i], &f->raw_inputs[i], diag));
    for (int i = 0; i < out; i++)
        if (owned(espl_session_output_info(f->session, i)))
            ESPL_TRY(make_pair(ctx, espl_session_output_info(f->session, i), &f->outputs[i], &f->raw_outputs[i], diag));
done:
    return status;
}

/* Input X and output X.next, of one type and shape, are a state. */
static void find_states(espl__feed *f) {
    for (int i = 0; i < espl_session_input_count(f->session); i++) {
        const char *x = espl_session_input_name(f->session, i);
        size_t length = strlen(x);
        f->next[i] = -1;
        for (int o = 0; o < espl_session_output_count(f->session); o++) {
            const char *y = espl_session_output_name(f->session, o);
            if (strncmp(x, y, length) == 0 && strcmp(y + length, ".next") == 0 &&
                f->inputs[i].dtype == f->outputs[o].dtype && f->inputs[i].dtype != ESPL_STRING &&
                espl_shape_equal(&f->inputs[i].shape, &f->outputs[o].shape))
                f->next[i] = o;
        }
    }
}

static espl_status match_arrays(espl__feed *f, espl_diag *diag) {
    char want[128], have[128];
    const espl_session *s = f->session;
    int arrays = espl_dataset_inputs(f->data);
    for (int i = 0; i < espl_session_input_count(s); i++) {
        f->source[i] = i < arrays ? i : -1;
        for (int j = 0; j < arrays; j++)
            if (strcmp(espl_dataset_input_name(f->data, j), espl_session_input_name(s, i)) == 0)
                f->source[i] = j;
        if (f->source[i] < 0)
            return espl__fail(diag, ESPL_SHAPE,
                              "the network has %d inputs, the data set (%s) %d arrays; none feeds '%s'",
                              espl_session_input_count(s), espl_dataset_describe(f->data), arrays,
                              espl_session_input_name(s, i));
        espl_shape sample = espl_dataset_shape(f->data, f->source[i]);
        if (f->inputs[i].dtype != ESPL_F32 ||
            espl_shape_count(&sample) != espl_shape_count(&f->inputs[i].shape))
            return espl__fail(diag, ESPL_SHAPE, "input '%s' wants %s %s, a sample of the data set (%s) is %s",
                              espl_session_input_name(s, i), espl_dtype_name(f->inputs[i].dtype),
                              espl_shape_text(&f->inputs[i].shape, want, sizeof want),
                              espl_dataset_describe(f->data), espl_shape_text(&sample, have, sizeof have));
    }
    return ESPL_OK;
}

/* The tokens go to the one input that is no state; the first output scores `vocabulary` tokens for each. */
static espl_status match_tokens(espl__feed *f, espl_diag *diag) {
    const espl_session *s = f->session;
    int input = -1, inputs = 0;
    char text[128];
    for (int i = 0; i < espl_session_input_count(s); i++) {
        f->source[i] = -1;
        if (f->next[i] >= 0) continue;
        input = i;
        inputs++;
    }
    if (inputs != 1)
        return espl__fail(
            diag, ESPL_SHAPE,
            "the network has %d inputs that are no states (X with an output X.next); a text (%s) "
            "feeds one",
            inputs, espl_dataset_describe(f->data));
    const espl_shape *shape = &f->inputs[input].shape;
    f->sequence = espl_shape_count(shape);
    for (int d = 0; d < shape->rank; d++)
        if ((f->inputs[input].dtype != ESPL_S64 && f->inputs[input].dtype != ESPL_S32) || f->sequence < 1 ||
            (shape->dim[d] != 1 && shape->dim[d] != f->sequence))
            return espl__fail(
                diag, ESPL_SHAPE,
                "input '%s' wants %s %s; a text feeds one column of s64 or s32 tokens at a time",
                espl_session_input_name(s, input), espl_dtype_name(f->inputs[input].dtype),
                espl_shape_text(shape, text, sizeof text));
    f->source[input] = 0;
    int64_t scores = espl_shape_count(&f->outputs[0].shape), most = espl_dataset_vocabulary(f->data);
    if (f->outputs[0].dtype == ESPL_F32 && scores % f->sequence == 0 && scores / f->sequence >= most)
        return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE,
                      "output '%s' is %s %s, which does not score the %" PRId64
                      " tokens of the data set (%s) at each of %" PRId64 " places",
                      espl_session_output_name(s, 0), espl_dtype_name(f->outputs[0].dtype),
                      espl_shape_text(&f->outputs[0].shape, text, sizeof text), most,
                      espl_dataset_describe(f->data), f->sequence);
}

espl_status espl__feed_open(espl_context *ctx, espl_session *session, espl_dataset *data, espl__feed *f,
                            espl_diag *diag) {
    espl_status status = ESPL_OK;
    *f = (espl__feed){.ctx = ctx, .session = session, .data = data};
    ESPL_TRY(make_buffers(f, diag));
    find_states(f);
    if (data) f->tokens = espl_dataset_tokens(data, &f->token_count);
    if (data) ESPL_TRY(f->tokens ? match_tokens(f, diag) : match_arrays(f, diag));
done:
    return status;
}

/* Of a pair, the session's tensor is one of its own only if the types differ. */
static void free_pairs(espl_context *ctx, espl_tensor *seen, espl_tensor *raw, int count) {
    for (int i = 0; i < count; i++) {
        if (raw && seen && raw[i].data != seen[i].data) espl_tensor_free(ctx, &raw[i]);
        if (seen) espl_tensor_free(ctx, &seen[i]);
    }
    espl__free(ctx, seen);
    espl__free(ctx, raw);
}

void espl__feed_close(espl__feed *f) {
    if (!f->ctx) return;
    for (int i = 0; f->raw_outputs && i < espl_session_output_count(f->session); i++)
        if (!owned(espl_session_output_info(f->session, i))) f->raw_outputs[i] = (espl_tensor){0};
    free_pairs(f->ctx, f->inputs, f->raw_inputs, espl_session_input_count(f->session));
    free_pairs(f->ctx, f->outputs, f->raw_outputs, espl_session_output_count(f->session));
    espl__free(f->ctx, f->source);
    espl__free(f->ctx, f->next);
    *f = (espl__feed){0};
}

/* --- running ----------------------------------------------------------------------------------------- */

/* Inputs for want of data: like normalised data, standard normal; what is no f32 stays 0. The index decides.
 */
static void draw_inputs(espl__feed *f, int64_t index) {
    for (int i = 0; i < espl_session_input_count(f->session); i++) {
        espl__rng rng = espl__rng_seed((uint64_t)index, (uint64_t)i);
        int64_t n = espl_shape_count(&f->inputs[i].shape);
        if (f->inputs[i].dtype == ESPL_F32)
            for (int64_t k = 0; k < n; k++) ((float *)f->inputs[i].data)[k] = espl__rng_normal(&rng);
    }
}

int64_t espl__feed_count(const espl__feed *f) {
    if (!f->tokens) return f->data ? espl_dataset_count(f->data) : 0;
    return (f->token_count - 1 + f->sequence - 1) / f->sequence;
}

const int32_t *espl__feed_targets(const espl__feed *f, int64_t index, int64_t *count) {
    int64_t first = index * f->sequence + 1;
    *count = ESPL_MIN(f->sequence, f->token_count - first);
    return f->tokens + first;
}

/* Behind the end of the text stands token 0, whose scores nobody looks at. */
static void put_tokens(const espl__feed *f, espl_tensor *input, int64_t index) {
    for (int64_t k = 0, at = index * f->sequence; k < f->sequence; k++, at++) {
        int32_t token = at < f->token_count ? f->tokens[at] : 0;
        if (input->dtype == ESPL_S64)
            ((int64_t *)input->data)[k] = token;
        else
            ((int32_t *)input->data)[k] = token;
    }
}

static void round_to_half(const espl_tensor *from, espl_tensor *to) {
    const float *x = from->data;
    uint16_t *y = to->data;
    bool brain = to->dtype == ESPL_BF16;
    for (int64_t i = 0, n = espl_shape_count(&from->shape); i < n; i++)
        y[i] = brain ? espl__bfloat_from_float(x[i]) : espl__half_from_float(x[i]);
}

static void widen_half(const espl_tensor *from, espl_tensor *to) {
    const uint16_t *x = from->data;
    float *y = to->data;
    bool brain = from->dtype == ESPL_BF16;
    for (int64_t i = 0, n = espl_shape_count(&from->shape); i < n; i++)
        y[i] = brain ? espl__bfloat_to_float(x[i]) : espl__half_to_float(x[i]);
}

void espl__feed_put(espl__feed *f) {
    for (int i = 0; i < espl_session_input_count(f->session); i++)
        if (is_half(f->raw_inputs[i].dtype)) round_to_half(&f->inputs[i], &f->raw_inputs[i]);
}

espl_status espl__feed_run(espl__feed *f, int64_t index, espl_diag *diag) {
    espl_status status = ESPL_OK;
    if (!f->data) draw_inputs(f, index);
    for (int i = 0; f->data && i < espl_session_input_count(f->session); i++) {
        espl_tensor *in = &f->inputs[i];
        if (f->tokens && f->source[i] >= 0)
            put_tokens(f, in, index);
        else if (f->source[i] >= 0)
            ESPL_TRY(espl_dataset_read(f->data, f->source[i], index, in->data, diag));
        else if (f->carry)
            memcpy(in->data, f->outputs[f->next[i]].data, espl__tensor_bytes(in));
    }
    espl__feed_put(f);
    ESPL_TRY(espl_session_run(f->session, f->raw_inputs, f->raw_outputs, diag));
    for (int i = 0; i < espl_session_output_count(f->session); i++)
        if (f->outputs[i].data && is_half(f->raw_outputs[i].dtype)) widen_half(&f->raw_outputs[i], &f->outputs[i]);
    f->carry = true;
done:
    return status;
}
