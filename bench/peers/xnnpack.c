/* One 1x1 convolution of channel planes in XNNPACK, which computes it from compressed sparse rows. csr.py makes a shared
 * library of this file. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xnnpack.h>

typedef struct peer {
    xnn_operator_t operator;
    float *in, *out;
    size_t out_bytes;
} peer;

void peer_close(peer *p) {
    if (p->operator) xnn_delete_operator(p->operator);
    free(p->in);
    free(p->out);
    free(p);
}

static int open_parts(peer *p, const float *x, const float *w, const float *bias, size_t in, size_t out, size_t size) {
    const size_t in_bytes = in * size * size * sizeof *x;
    p->out_bytes = out * size * size * sizeof *x;
    p->in = calloc(1, in_bytes + XNN_EXTRA_BYTES);
    p->out = calloc(1, p->out_bytes + XNN_EXTRA_BYTES);
    if (!p->in || !p->out) return 0;
    memcpy(p->in, x, in_bytes);
    return xnn_create_convolution2d_nchw_f32(0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, in, out, in, out, w, bias, 0.0f, INFINITY, 0,
                                             &p->operator) == xnn_status_success &&
           xnn_setup_convolution2d_nchw_f32(p->operator, 1, size, size, p->in, p->out, NULL) == xnn_status_success;
}

/* x: [channels][size][size], w: [out_channels][channels]; a ReLU follows. NULL if XNNPACK refuses. */
peer *peer_open(const float *x, const float *w, const float *bias, int channels, int out_channels, int size) {
    if (xnn_initialize(NULL) != xnn_status_success) return NULL;
    peer *p = calloc(1, sizeof *p);
    if (!p || open_parts(p, x, w, bias, (size_t)channels, (size_t)out_channels, (size_t)size)) return p;
    peer_close(p);
    return NULL;
}

/* The result of the last run, [out_channels][size][size]. */
void peer_result(const peer *p, float *to) {
    memcpy(to, p->out, p->out_bytes);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The shortest of `runs` runs, in seconds; negative if one fails. */
double peer_run(peer *p, int runs) {
    double best = HUGE_VAL;
    for (int i = 0; i < runs; i++) {
        double begin = seconds();
        if (xnn_run_operator(p->operator, NULL) != xnn_status_success) return -1;
        best = fmin(best, seconds() - begin);
    }
    return best;
}
