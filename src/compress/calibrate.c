/* Calibration by MinMax: two numbers a value, however many samples there are. */
#include "compress/compress.h"

static void observe(void *user, int value, const char *name, const float *data, int64_t count) {
    range *r = &((range *)user)[value];
    (void)name;
    float lo = r->seen ? r->min : 0, hi = r->seen ? r->max : 0;
    for (int64_t i = 0; i < count; i++) { /* a NaN changes nothing */
        lo = data[i] < lo ? data[i] : lo;
        hi = data[i] > hi ? data[i] : hi;
    }
    *r = (range){lo, hi, r->seen + 1};
}

espl_status espl__calibrate(espl_context *ctx, const espl_graph *graph, const espl_shape *shapes,
                            espl_dataset *data, int64_t first, int64_t step, int64_t count, range *ranges,
                            espl_progress progress, void *user, espl_diag *diag) {
    espl_session *session = NULL;
    espl_session_options options = {.input_shapes = shapes, .observer = observe, .observer_user = ranges};
    espl_evaluation run = {.first = first, .step = step, .count = count, .progress = progress, .user = user};
    espl_scores scores;
    espl_status status = espl_session_create(ctx, graph, &options, &session, diag);
    if (status == ESPL_OK) status = espl_evaluate(ctx, session, data, &run, &scores, diag);
    espl_session_destroy(&session);
    return status;
}
