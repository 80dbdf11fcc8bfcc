#include "train/schedule.h"

#include <math.h>

void espl__schedule_begin(espl__schedule *s) {
    s->factor = 1;
    s->best = INFINITY;
    s->waited = 0;
}

static double stepped(const espl__schedule *s, int64_t step) {
    double rate = s->rate;
    for (unsigned i = 0; i < s->milestone_count; i++)
        if ((double)step >= s->milestones[i] * (double)s->epoch_steps) rate *= s->gamma;
    return fmax(rate, s->least);
}

static double cosine(const espl__schedule *s, double done, double all) {
    double part = all > 0 ? fmin(done / all, 1) : 1;
    return s->least + (s->rate - s->least) * 0.5 * (1 + cos(acos(-1.0) * part));
}

double espl__schedule_rate(const espl__schedule *s, int64_t step) {
    double warm = floor(s->warmup * (double)s->epoch_steps + 0.5);
    double rate = s->rate;
    if ((double)step < warm) return rate * ((double)step + 1) / warm;
    switch (s->kind) {
        case ESPL__SCHEDULE_CONSTANT:
            break;
        case ESPL__SCHEDULE_STEP:
            rate = stepped(s, step);
            break;
        case ESPL__SCHEDULE_COSINE:
            rate = cosine(s, (double)step - warm, (double)s->epochs * (double)s->epoch_steps - warm);
            break;
        case ESPL__SCHEDULE_PLATEAU:
            rate = fmax(rate * s->factor, s->least);
            break;
    }
    return rate;
}

void espl__schedule_epoch(espl__schedule *s, double loss) {
    if (s->kind != ESPL__SCHEDULE_PLATEAU) return;
    if (loss < s->best * (1 - 1e-4)) { /* a fall by less than this share is none */
        s->best = loss;
        s->waited = 0;
    } else if (++s->waited > s->patience) {
        s->factor *= s->gamma;
        s->waited = 0;
    }
}
