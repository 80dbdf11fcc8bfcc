/* Calibration: samples run through the f32 network, and an observer keeps of every value what its range
 * needs. */
#include "compress/compress.h"

typedef struct calibration {
    range *ranges;
    espl__tally *tally;
} calibration;

static void observe(void *user, int value, const char *name, const float *data, int64_t count) {
    calibration *c = user;
    (void)name;
    espl__range_observe(&c->ranges[value], data, 1, count, c->tally);
}

/* All memory there is to it, before anything runs. */
static espl_status make_histograms(espl_context *ctx, const espl_graph *g, const bool *observed,
                                   range *ranges, espl_diag *diag) {
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        if (v->dtype != ESPL_F32 || v->constant || (observed && !observed[i])) continue;
        if (!espl__observer_counts(&ranges[i].observer) || ranges[i].histogram) continue;
        ranges[i].histogram = espl__calloc(ctx, 1, sizeof *ranges[i].histogram);
        if (!ranges[i].histogram) return espl__nomem(diag, sizeof *ranges[i].histogram);
    }
    return ESPL_OK;
}

espl_status espl__calibrate(espl_context *ctx, const espl_graph *graph, const espl_shape *shapes,
                            espl_dataset *data, int64_t first, int64_t step, int64_t count,
                            const bool *observed, range *ranges, espl_progress progress, void *user,
                            espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_session *session = NULL;
    calibration c = {ranges, espl__calloc(ctx, 1, sizeof *c.tally)};
    espl_session_options options = {
        .input_shapes = shapes, .observer = observe, .observer_user = &c, .observed = observed, .unordered = true,
        .without_late = true};
    espl_evaluation run = {.first = first, .step = step, .count = count, .progress = progress, .user = user};
    espl_scores scores;
    if (!c.tally) return espl__nomem(diag, sizeof *c.tally);
    ESPL_TRY(make_histograms(ctx, graph, observed, ranges, diag));
    ESPL_TRY(espl_session_create(ctx, graph, &options, &session, diag));
    ESPL_TRY(espl_evaluate(ctx, session, data, &run, &scores, diag));
done:
    espl_session_destroy(&session);
    espl__free(ctx, c.tally);
    return status;
}
