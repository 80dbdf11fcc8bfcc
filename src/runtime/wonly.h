/* Products of f32 rows and weights of 2, 4 or 8 bits, perhaps with a scale for each group of inputs. */
#ifndef ESPL_RUNTIME_WONLY_H
#define ESPL_RUNTIME_WONLY_H

#include "runtime/weights.h"

/* A matrix of constant weights, element (channel, input) at channel * by_channel + input * by_input of the
 * value's, whose axes are `axis` and `inner`. */
typedef struct wonly_matrix {
    int64_t channels, k, by_channel, by_input;
    int axis, inner;
} wonly_matrix;

/* Takes a Gemm or MatMul whose input is f32 and whose weights are codes around 0. `dynamic`: the rows may be
 * rounded to 8 bits as the run finds them, else as near as f32 and only where there are few. */
espl_status espl__lower_wonly(espl_session *s, espl__node *node, const wonly_matrix *matrix, bool dynamic,
                              bool *taken, espl_diag *diag);

#endif
