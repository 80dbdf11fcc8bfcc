/* DFT and STFT as their nodes say, and the transform itself. */
#ifndef ESPL_OPS_FOURIER_H
#define ESPL_OPS_FOURIER_H

#include "ops/ops.h"

typedef struct espl__complex64 {
    double re, im;
} espl__complex64;

/* Room of one transform of `length` elements. */
typedef struct espl__fourier {
    int64_t length;
    espl__complex64 *line, *result, *spare, *root;
} espl__fourier;
uint64_t espl__fourier_bytes(int64_t length);
/* With roots of unity e^(-2 pi i / length), or of the inverse, which is not divided by the length. */
espl__fourier espl__fourier_begin(void *room, int64_t length, bool inverse);
/* `result` is the transform of `line`. */
void espl__fourier_run(const espl__fourier *f);

typedef struct espl__dft {
    bool known, inverse, onesided;
    int axis;
    int64_t length, in, out; /* of the transform; elements along the axis on both sides */
    int parts;               /* 1: the output is real */
} espl__dft;
ESPL_NODISCARD espl_status espl__dft_resolve(const espl__node *node, const espl_shape *x, espl__dft *d,
                                             espl_diag *diag);

typedef struct espl__stft {
    bool known;
    int64_t samples, parts, length, window, step, frames, bins;
} espl__stft;
/* A frame is as long as frame_length says, else as the window, else as the signal. */
ESPL_NODISCARD espl_status espl__stft_resolve(const espl__node *node, espl__stft *s, espl_diag *diag);

#endif
