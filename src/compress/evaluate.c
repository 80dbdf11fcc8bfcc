#include "espalier/evaluate.h"
#include "compress/compress.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct run_buffers {
    espl_tensor *inputs, *outputs;
    int *source; /* array of the data set that feeds each input */
} run_buffers;

static void free_buffers(espl_context *ctx, const espl_session *s, run_buffers *b) {
    for (int i = 0; b->inputs && i < espl_session_input_count(s); i++) espl_tensor_free(ctx, &b->inputs[i]);
    for (int i = 0; b->outputs && i < espl_session_output_count(s); i++)
        espl_tensor_free(ctx, &b->outputs[i]);
    espl__free(ctx, b->inputs);
    espl__free(ctx, b->outputs);
    espl__free(ctx, b->source);
}

static espl_status make_buffers(espl_context *ctx, const espl_session *s, run_buffers *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int in = espl_session_input_count(s), out = espl_session_output_count(s);
    *b = (run_buffers){espl__calloc(ctx, (uint64_t)in + 1, sizeof *b->inputs),
                       espl__calloc(ctx, (uint64_t)out + 1, sizeof *b->outputs),
                       espl__calloc(ctx, (uint64_t)in + 1, sizeof *b->source)};
    if (!b->inputs || !b->outputs || !b->source) return espl__nomem(diag, sizeof *b->inputs);
    for (int i = 0; i < in; i++) {
        const espl_tensor *t = espl_session_input_info(s, i);
        ESPL_TRY(espl_tensor_alloc(ctx, t->dtype, &t->shape, &b->inputs[i], diag));
        memset(b->inputs[i].data, 0, espl__tensor_bytes(&b->inputs[i]));
    }
    for (int i = 0; i < out; i++) {
        const espl_tensor *t = espl_session_output_info(s, i);
        ESPL_TRY(espl_tensor_alloc(ctx, t->dtype, &t->shape, &b->outputs[i], diag));
    }
done:
    return status;
}

/* Pairs the data set's arrays with the network's inputs: by name, else in order; elements must match. */
static espl_status match_inputs(const espl_session *s, const espl_dataset *data, run_buffers *b,
                                espl_diag *diag) {
    char want[128], have[128];
    int arrays = espl_dataset_inputs(data);
    for (int i = 0; i < espl_session_input_count(s); i++) {
        b->source[i] = i < arrays ? i : -1;
        for (int j = 0; j < arrays; j++)
            if (strcmp(espl_dataset_input_name(data, j), espl_session_input_name(s, i)) == 0)
                b->source[i] = j;
        if (b->source[i] < 0)
            return espl__fail(diag, ESPL_SHAPE,
                              "the network has %d inputs, the data set (%s) %d arrays; none feeds '%s'",
                              espl_session_input_count(s), espl_dataset_describe(data), arrays,
                              espl_session_input_name(s, i));
        espl_shape sample = espl_dataset_shape(data, b->source[i]);
        if (b->inputs[i].dtype != ESPL_F32 ||
            espl_shape_count(&sample) != espl_shape_count(&b->inputs[i].shape))
            return espl__fail(diag, ESPL_SHAPE, "input '%s' wants %s %s, a sample of the data set (%s) is %s",
                              espl_session_input_name(s, i), espl_dtype_name(b->inputs[i].dtype),
                              espl_shape_text(&b->inputs[i].shape, want, sizeof want),
                              espl_dataset_describe(data), espl_shape_text(&sample, have, sizeof have));
    }
    return ESPL_OK;
}

typedef struct tally {
    int64_t top1, top5;
    double loss, squares;
    int64_t elements;
} tally;

static int64_t largest(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Cross-entropy of the label. Outputs that already sum to 1 are probabilities, others are logits. */
static double cross_entropy(const float *x, int64_t n, int64_t label) {
    double sum = 0, total = 0, highest = x[largest(x, n)];
    bool positive = true;
    for (int64_t i = 0; i < n; i++) {
        positive &= x[i] >= 0;
        total += x[i];
        sum += exp(x[i] - highest);
    }
    if (positive && fabs(total - 1) < 1e-3) return -log(fmax(x[label], 1e-12));
    return log(sum) + highest - x[label];
}

static void score(const float *x, int64_t n, int64_t label, tally *t) {
    if (label < 0 || label >= n) {
        t->loss += log(1e12);
        return;
    }
    int64_t above =
        0; /* equal ones before the label count against it, so that a constant output scores chance */
    for (int64_t i = 0; i < n; i++) above += x[i] > x[label] || (x[i] == x[label] && i < label);
    t->top1 += above < 1;
    t->top5 += above < 5;
    t->loss += cross_entropy(x, n, label);
}

/* Inputs for want of data: like normalised data, standard normal; what is no f32 stays 0. The index decides.
 */
static void draw_inputs(const espl_session *s, run_buffers *b, int64_t index) {
    for (int i = 0; i < espl_session_input_count(s); i++) {
        espl__rng rng = espl__rng_seed((uint64_t)index, (uint64_t)i);
        int64_t n = espl_shape_count(&b->inputs[i].shape);
        if (b->inputs[i].dtype == ESPL_F32)
            for (int64_t k = 0; k < n; k++) ((float *)b->inputs[i].data)[k] = espl__rng_normal(&rng);
    }
}

static espl_status fetch_inputs(const espl_session *s, espl_dataset *data, run_buffers *b, int64_t index,
                                espl_diag *diag) {
    espl_status status = ESPL_OK;
    if (!data) draw_inputs(s, b, index);
    for (int k = 0; data && k < espl_session_input_count(s) && status == ESPL_OK; k++)
        status = espl_dataset_read(data, b->source[k], index, b->inputs[k].data, diag);
    return status;
}

espl_status espl_evaluate(espl_context *ctx, espl_session *session, espl_dataset *data,
                          const espl_evaluation *options, espl_scores *scores, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_evaluation o = options ? *options : (espl_evaluation){.step = 1, .count = -1};
    run_buffers b;
    tally t = {0};
    if (o.step == 0) o.step = 1;
    if (o.hold_out == 1) return espl__fail(diag, ESPL_INVALID, "holding out every sample leaves none");
    if (!data && o.count < 0)
        return espl__fail(diag, ESPL_INVALID, "without data a number of samples must be given");
    int64_t all = data ? espl_dataset_count(data) : o.first + o.count * o.step,
            available = (all - o.first + o.step - 1) / o.step;
    if (o.hold_out > 0) available = all - (all + o.hold_out - 1) / o.hold_out;
    int64_t count = o.count < 0 ? available : ESPL_MIN(o.count, available);
    *scores = (espl_scores){0};
    ESPL_TRY(make_buffers(ctx, session, &b, diag));
    if (data) ESPL_TRY(match_inputs(session, data, &b, diag));
    const espl_tensor *out = &b.outputs[0], *in = &b.inputs[0];
    int64_t n = espl_shape_count(&out->shape);
    bool real = out->dtype == ESPL_F32 && n > 0;
    scores->has_mse = real && in->dtype == ESPL_F32 && espl_shape_equal(&in->shape, &out->shape);
    scores->has_labels = real && data && espl_dataset_has_labels(data) && !scores->has_mse;
    for (int64_t i = 0; i < count; i++) {
        int64_t index = o.first + i * o.step, label = -1;
        if (o.hold_out > 0) index = i / (o.hold_out - 1) * o.hold_out + 1 + i % (o.hold_out - 1);
        ESPL_TRY(fetch_inputs(session, data, &b, index, diag));
        ESPL_TRY(espl_session_run(session, b.inputs, b.outputs, diag));
        const float *x = out->data;
        if (scores->has_labels) {
            ESPL_TRY(espl_dataset_label(data, index, &label, diag));
            score(x, n, label, &t);
        }
        for (int64_t k = 0; scores->has_mse && k < n; k++) {
            double d = (double)x[k] - ((const float *)in->data)[k];
            t.squares += d * d;
        }
        if (real && o.classes) o.classes[i] = (int32_t)largest(x, n);
        if (real && o.outputs) memcpy(o.outputs + i * n, x, sizeof(float) * (size_t)n);
        scores->samples++;
        if (o.progress && !o.progress(o.user, "samples", i + 1, count)) {
            status = espl__fail(diag, ESPL_CANCELLED, "cancelled after %" PRId64 " of %" PRId64 " samples",
                                i + 1, count);
            goto done;
        }
    }
    if (scores->samples == 0) goto done;
    scores->top1 = (double)t.top1 / (double)scores->samples;
    scores->top5 = (double)t.top5 / (double)scores->samples;
    scores->loss = t.loss / (double)scores->samples;
    scores->mse = t.squares / ((double)scores->samples * (double)n);
done:
    free_buffers(ctx, session, &b);
    return status;
}

espl_status espl__each_sample(espl_context *ctx, espl_session *session, espl_dataset *data, int64_t step,
                              int64_t count, espl__sample_fn fn, void *user, espl_diag *diag) {
    espl_status status = ESPL_OK;
    run_buffers b;
    if (data) count = ESPL_MIN(count, (espl_dataset_count(data) + step - 1) / step);
    ESPL_TRY(make_buffers(ctx, session, &b, diag));
    if (data) ESPL_TRY(match_inputs(session, data, &b, diag));
    for (int64_t i = 0; i < count; i++) {
        ESPL_TRY(fetch_inputs(session, data, &b, i * step, diag));
        ESPL_TRY(espl_session_run(session, b.inputs, b.outputs, diag));
        ESPL_TRY(fn(user, i, b.inputs, b.outputs, diag));
    }
done:
    free_buffers(ctx, session, &b);
    return status;
}

/* --- time ------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill_inputs(const espl_session *s, run_buffers *b) {
    espl__rng rng = espl__rng_seed(1, 0);
    for (int i = 0; i < espl_session_input_count(s); i++) {
        int64_t n = espl_shape_count(&b->inputs[i].shape);
        if (b->inputs[i].dtype == ESPL_F32)
            for (int64_t k = 0; k < n; k++) ((float *)b->inputs[i].data)[k] = 2 * espl__rng_float(&rng) - 1;
    }
}

espl_status espl_time_session(espl_context *ctx, espl_session *session, int runs, double seconds,
                              espl_timing *timing, espl_diag *diag) {
    enum { MOST = 100000, WARM = 5 };
    espl_status status = ESPL_OK;
    run_buffers b;
    double *times = espl__calloc(ctx, MOST, sizeof *times);
    int n = 0;
    if (!times) return espl__nomem(diag, MOST * sizeof *times);
    ESPL_TRY(make_buffers(ctx, session, &b, diag));
    fill_inputs(session, &b);
    double begin = espl__now();
    for (int i = 0; i < WARM && (i < 1 || espl__now() - begin < seconds); i++)
        ESPL_TRY(espl_session_run(session, b.inputs, b.outputs, diag));
    espl_session_profile_reset(session);
    begin = espl__now();
    while (n < MOST && (n < runs || espl__now() - begin < seconds)) {
        double start = espl__now();
        ESPL_TRY(espl_session_run(session, b.inputs, b.outputs, diag));
        times[n++] = 1e3 * (espl__now() - start);
    }
    qsort(times, (size_t)n, sizeof *times, ascending);
    *timing = (espl_timing){times[n / 2], times[0], times[n * 9 / 10], n};
done:
    free_buffers(ctx, session, &b);
    espl__free(ctx, times);
    return status;
}
