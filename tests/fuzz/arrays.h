/* The arrays of a session's run, inputs before outputs. An output whose shape only the run tells is the
 * session's own. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include <stdbool.h>

#include "espalier/session.h"

static inline const espl_tensor *array_info(const espl_session *s, int i) {
    int ins = espl_session_input_count(s);
    return i < ins ? espl_session_input_info(s, i) : espl_session_output_info(s, i - ins);
}

static inline bool array_is_ours(const espl_session *s, int i) {
    const espl_shape *shape = &array_info(s, i)->shape;
    return i < espl_session_input_count(s) || (shape->rank >= 0 && espl_shape_count(shape) >= 0);
}

#endif
