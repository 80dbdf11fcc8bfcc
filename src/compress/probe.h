/* What a changed network's first output loses against the f32 network's, on a few calibration samples: the
 * measure of blame and of the search for formats. */
#ifndef ESPL_PROBE_H
#define ESPL_PROBE_H

#include "compress/trial.h"

typedef struct probe {
    task *k;
    espl_dataset *data;  /* NULL: inputs are drawn */
    int64_t step, count; /* of the samples */
    int64_t size;        /* of the output */
    bool classes;        /* the output ranks classes, so that there is a divergence */
    float *outputs;      /* the f32 network's, sample by sample */
    double top1;         /* its score; NaN without labels */
} probe;

/* Runs the f32 network on at most `samples` of the calibration samples. To be closed whatever it returns. */
ESPL_NODISCARD espl_status espl__probe_open(task *k, int64_t samples, probe *out, espl_diag *diag);
void espl__probe_close(probe *p);
/* Runs `graph` on the same samples. */
ESPL_NODISCARD espl_status espl__probe_measure(const probe *p, const espl_graph *graph, espl_damage *out,
                                               espl_diag *diag);
/* What a search may add up over layers: the softened divergence, and without classes the square of the
 * relative error, which for small independent disturbances add up too. Outputs that are no numbers count as
 * very bad. */
double espl__damage_sum(const espl_damage *d);
/* Mean divergence sum p log(p/q), in nats, of `b` from `a`: `rows` outputs of `size` logits z, or of
 * probabilities exp(z), with p ~ exp(z / temperature). */
double espl__divergence(const float *a, const float *b, int64_t rows, int64_t size, double temperature);
/* |a - b| / |b| */
double espl__relative_error(const float *a, const float *b, int64_t count);

#endif
