/* Takes the faster of two ways to compute a step, by measurement: both run in turn on the session's own
 * buffers, which hold nothing yet. The results are the same bytes unless an input is infinite or NaN, so only time depends on
 * the outcome. */
#include "base/tune.h"
#include "runtime/plan.h"

#include <math.h>

enum { ROUNDS_LEAST = 3, ROUNDS_MOST = 15 };
static const double SECONDS = 4e-3; /* for one layer, if that makes ROUNDS_LEAST rounds */

static double time_of(const step *st, espl_session *s) {
    double start = espl__now();
    st->run(st, s);
    return espl__now() - start;
}

/* How many times as long as `st` its other way takes: shortest times of alternate runs. */
static double compare(const step *st, espl_session *s) {
    double best[2] = {INFINITY, INFINITY}, until = espl__now() + SECONDS;
    for (int round = 0; round < ROUNDS_MOST; round++) {
        for (int i = 0; i < 2; i++) best[i] = fmin(best[i], time_of(i ? st->other : st, s));
        if (round + 1 >= ROUNDS_LEAST && espl__now() > until) break;
    }
    return best[1] / fmax(best[0], 1e-9);
}

/* Inputs and outputs have no memory before a run. */
static espl_status lend_io(espl_session *s, bool lend, espl_diag *diag) {
    for (int i = 0; i < s->buffer_count; i++) {
        buffer *b = &s->buffers[i];
        if (b->kind != BUFFER_INPUT && b->kind != BUFFER_OUTPUT) continue;
        if (!lend) espl__free(s->ctx, b->data);
        b->data = lend ? espl__calloc(s->ctx, b->bytes + 1, 1) : NULL;
        if (lend && !b->data) {
            (void)lend_io(s, false, NULL);
            return espl__nomem(diag, b->bytes);
        }
    }
    return ESPL_OK;
}

static void choose(espl_session *s, step **place) {
    step *st = *place, *other = st->other;
    double gain = espl__tune_find(s->ctx, st->choice);
    if (gain == 0) {
        gain = compare(st, s);
        espl__tune_keep(s->ctx, st->choice, gain);
    }
    if (gain < 1) {
        *place = other;
        espl__plan_release(s, &st->memory);
        other->slower = st->kernel;
        other->gain = 1 / gain;
    } else {
        espl__plan_release(s, &other->memory);
        st->slower = other->kernel;
        st->gain = gain;
    }
    st->other = other->other = NULL;
}

espl_status espl__plan_choose(espl_session *s, espl_diag *diag) {
    bool any = false;
    for (int i = 0; i < s->step_count; i++) any = any || s->steps[i]->other;
    if (!any) return ESPL_OK;
    espl_status status = lend_io(s, true, diag);
    if (status != ESPL_OK) return status;
    for (int i = 0; i < s->step_count; i++)
        if (s->steps[i]->other) choose(s, &s->steps[i]);
    memset(s->workspace, 0, s->workspace_bytes);
    return lend_io(s, false, diag);
}
