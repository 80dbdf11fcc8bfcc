/* Arrays of any element type as numbers. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include "cli.h"
#include "espalier/session.h"

/* Element `index` as a number; integers beyond 2^53 are rounded. */
double element(const espl_tensor *t, int64_t index);
/* Whether two arrays of strings of one shape are the same. */
bool same_texts(const espl_tensor *a, const espl_tensor *b);
/* Makes *t f32; strings stay. */
ESPL_NODISCARD espl_status to_f32(cli *c, espl_tensor *t);

/* Arrays for every input or output of a session: NULL without memory. */
espl_tensor *new_arrays(int count);
void free_arrays(cli *c, espl_tensor **arrays, int count);
/* The same of alloc_outputs: some of them are the session's. */
void free_outputs(cli *c, const espl_session *session, espl_tensor **outputs);
/* Arrays for the session's outputs, with room for their elements. */
ESPL_NODISCARD espl_status alloc_outputs(cli *c, const espl_session *session, espl_tensor **out);

#endif
