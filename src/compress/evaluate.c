#include "espalier/evaluate.h"
#include "base/pool.h"
#include "compress/compress.h"
#include "compress/feed.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct tally {
    int64_t top1, top5;
    double loss, squares;
    int64_t labels;
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
    float lowest = x[0];
    for (int64_t i = 1; i < n; i++) lowest = x[i] < lowest ? x[i] : lowest;
    for (int64_t i = 0; lowest >= 0 && i < n; i++) total += x[i];
    if (lowest >= 0 && fabs(total - 1) < 1e-3) return -log(fmax(x[label], 1e-12));
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - highest);
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

/* --- texts ------------------------------------------------------------------------------------------ */

/* The places of one run, scored on all threads: the scores of place i by one of them, their sum in order. */
typedef struct places {
    const float *scores;    /* [count][vocabulary] */
    const int32_t *targets; /* [count] */
    int64_t vocabulary;
    tally *tallies; /* [count] */
} places;

static void score_places(void *arg, int64_t begin, int64_t end, int thread) {
    const places *p = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        p->tallies[i] = (tally){0};
        score(p->scores + i * p->vocabulary, p->vocabulary, p->targets[i], &p->tallies[i]);
    }
}

/* Run `index` of a text: every token is a label. */
static void score_text(const espl__feed *f, int64_t index, tally *scratch, tally *t) {
    int64_t count;
    places p = {.scores = f->outputs[0].data, .tallies = scratch};
    p.targets = espl__feed_targets(f, index, &count);
    p.vocabulary = espl_shape_count(&f->outputs[0].shape) / f->sequence;
    espl__parallel_for(espl__context_pool(f->ctx), count, score_places, &p);
    for (int64_t i = 0; i < count; i++) {
        t->top1 += scratch[i].top1;
        t->top5 += scratch[i].top5;
        t->loss += scratch[i].loss;
    }
    t->labels += count;
}

/* --- samples ---------------------------------------------------------------------------------------- */

/* What is compared with what: decided by the first output and the data. */
typedef struct comparison {
    espl__feed feed;
    tally sum;
    tally *scratch; /* of a text: one for each place */
    int64_t size;   /* elements of the first output */
    bool real, labels, mse;
} comparison;

static espl_status compare_open(comparison *c, espl_context *ctx, espl_session *session, espl_dataset *data,
                                espl_diag *diag) {
    espl_status status = ESPL_OK;
    *c = (comparison){0};
    ESPL_TRY(espl__feed_open(ctx, session, data, &c->feed, diag));
    const espl_tensor *out = &c->feed.outputs[0], *in = &c->feed.inputs[0];
    c->size = espl_shape_count(&out->shape);
    c->real = out->dtype == ESPL_F32 && c->size > 0;
    c->mse = c->real && in->dtype == ESPL_F32 && espl_shape_equal(&in->shape, &out->shape);
    c->labels = c->real && data && (c->feed.tokens || (espl_dataset_has_labels(data) && !c->mse));
    if (c->feed.tokens) {
        c->scratch = espl__calloc(ctx, (uint64_t)c->feed.sequence, sizeof *c->scratch);
        if (!c->scratch) status = espl__nomem(diag, (uint64_t)c->feed.sequence * sizeof *c->scratch);
    }
done:
    return status;
}

static void compare_close(comparison *c) {
    if (!c->feed.ctx) return;
    espl__free(c->feed.ctx, c->scratch);
    espl__feed_close(&c->feed);
}

static espl_status compare(comparison *c, int64_t index, espl_diag *diag) {
    espl_status status = ESPL_OK;
    ESPL_TRY(espl__feed_run(&c->feed, index, diag));
    const float *x = c->feed.outputs[0].data, *in = c->feed.inputs[0].data;
    if (c->feed.tokens) {
        score_text(&c->feed, index, c->scratch, &c->sum);
    } else if (c->labels) {
        int64_t label;
        ESPL_TRY(espl_dataset_label(c->feed.data, index, &label, diag));
        score(x, c->size, label, &c->sum);
        c->sum.labels++;
    }
    for (int64_t k = 0; c->mse && k < c->size; k++) {
        double d = (double)x[k] - in[k];
        c->sum.squares += d * d;
    }
done:
    return status;
}

static void conclude(const comparison *c, espl_scores *scores) {
    const tally *t = &c->sum;
    double labels = (double)ESPL_MAX(t->labels, 1);
    scores->has_labels = c->labels;
    scores->has_mse = c->mse;
    scores->has_perplexity = c->feed.tokens != NULL;
    if (scores->samples == 0) return;
    scores->top1 = (double)t->top1 / labels;
    scores->top5 = (double)t->top5 / labels;
    scores->loss = t->loss / labels;
    scores->mse = t->squares / ((double)scores->samples * (double)c->size);
    if (!scores->has_perplexity) return;
    scores->tokens = t->labels;
    scores->perplexity = exp(scores->loss);
}

espl_status espl_evaluate(espl_context *ctx, espl_session *session, espl_dataset *data,
                          const espl_evaluation *options, espl_scores *scores, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_evaluation o = options ? *options : (espl_evaluation){.step = 1, .count = -1};
    comparison c = {0};
    if (o.step == 0) o.step = 1;
    if (o.hold_out == 1) return espl__fail(diag, ESPL_INVALID, "holding out every sample leaves none");
    if (!data && o.count < 0)
        return espl__fail(diag, ESPL_INVALID, "without data a number of samples must be given");
    *scores = (espl_scores){0};
    if (espl_session_output_count(session) > 0 && (espl_session_output_info(session, 0)->shape.rank < 0 ||
                                                   espl_shape_count(&espl_session_output_info(session, 0)->shape) < 0))
        return espl__fail(diag, ESPL_UNSUPPORTED, "the shape of output '%s' depends on data, so that it cannot be scored",
                          espl_session_output_name(session, 0));
    ESPL_TRY(compare_open(&c, ctx, session, data, diag));
    int64_t all = data ? espl__feed_count(&c.feed) : o.first + o.count * o.step,
            available = (all - o.first + o.step - 1) / o.step;
    if (o.hold_out > 0) available = all - (all + o.hold_out - 1) / o.hold_out;
    int64_t count = o.count < 0 ? available : ESPL_MIN(o.count, available);
    for (int64_t i = 0; i < count; i++) {
        int64_t index = o.first + i * o.step;
        if (o.hold_out > 0) index = i / (o.hold_out - 1) * o.hold_out + 1 + i % (o.hold_out - 1);
        ESPL_TRY(compare(&c, index, diag));
        const float *x = c.feed.outputs[0].data;
        int64_t in_run = ESPL_MAX(c.feed.sequence, 1), scores_of_one = c.size / in_run;
        if (c.real && o.classes)
            o.classes[i] = (int32_t)largest(x + (in_run - 1) * scores_of_one, scores_of_one);
        if (c.real && o.outputs) memcpy(o.outputs + i * c.size, x, sizeof(float) * (size_t)c.size);
        scores->samples++;
        if (o.progress && !o.progress(o.user, "samples", i + 1, count)) {
            status = espl__fail(diag, ESPL_CANCELLED, "cancelled after %" PRId64 " of %" PRId64 " samples",
                                i + 1, count);
            goto done;
        }
    }
    conclude(&c, scores);
done:
    compare_close(&c);
    return status;
}

espl_status espl__each_sample(espl_context *ctx, espl_session *session, espl_dataset *data, int64_t step,
                              int64_t count, espl__sample_fn fn, void *user, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__feed f;
    ESPL_TRY(espl__feed_open(ctx, session, data, &f, diag));
    if (data) count = ESPL_MIN(count, (espl__feed_count(&f) + step - 1) / step);
    for (int64_t i = 0; i < count; i++) {
        ESPL_TRY(espl__feed_run(&f, i * step, diag));
        ESPL_TRY(fn(user, i, f.inputs, f.outputs, diag));
    }
done:
    espl__feed_close(&f);
    return status;
}

/* --- time ------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill_inputs(const espl_session *s, espl__feed *b) {
    espl__rng rng = espl__rng_seed(1, 0);
    for (int i = 0; i < espl_session_input_count(s); i++) {
        int64_t n = espl_shape_count(&b->inputs[i].shape);
        if (b->inputs[i].dtype == ESPL_F32)
            for (int64_t k = 0; k < n; k++) ((float *)b->inputs[i].data)[k] = 2 * espl__rng_float(&rng) - 1;
    }
    espl__feed_put(b);
}

espl_status espl_time_session(espl_context *ctx, espl_session *session, int runs, double seconds,
                              espl_timing *timing, espl_diag *diag) {
    enum { MOST = 100000, WARM = 5 };
    espl_status status = ESPL_OK;
    espl__feed b;
    double *times = espl__calloc(ctx, MOST, sizeof *times);
    int n = 0;
    if (!times) return espl__nomem(diag, MOST * sizeof *times);
    ESPL_TRY(espl__feed_open(ctx, session, NULL, &b, diag));
    fill_inputs(session, &b);
    double begin = espl__now();
    for (int i = 0; i < WARM && (i < 1 || espl__now() - begin < seconds); i++)
        ESPL_TRY(espl_session_run(session, b.raw_inputs, b.raw_outputs, diag));
    espl_session_profile_reset(session);
    begin = espl__now();
    while (n < MOST && (n < runs || espl__now() - begin < seconds)) {
        double start = espl__now();
        ESPL_TRY(espl_session_run(session, b.raw_inputs, b.raw_outputs, diag));
        times[n++] = 1e3 * (espl__now() - start);
    }
    qsort(times, (size_t)n, sizeof *times, ascending);
    *timing = (espl_timing){times[n / 2], times[0], times[n * 9 / 10], n};
done:
    espl__feed_close(&b);
    espl__free(ctx, times);
    return status;
}
