/* What readers and writers of files share beside base.h. */
#ifndef ESPL_OUTPUT_H
#define ESPL_OUTPUT_H

#include "base/base.h"

/* "path: what: reason of errno; remedy". */
espl_status espl__io_fail(espl_diag *diag, const char *path, const char *what);
/* The first bytes of a regular file, at most `count`; *got says how many there are. */
ESPL_NODISCARD espl_status espl__file_peek(const char *path, void *bytes, size_t count, size_t *got, espl_diag *diag);
/* Removes what processes that are no more were writing for `path`: "path.1234.part", a file or a folder of
 * plain files. */
void espl__sweep(espl_context *ctx, const char *path);
/* Opens a folder and takes it for this process until the descriptor *fd is closed; false in *taken (and OK)
 * if another process has it. Where a file system knows no locks it is taken by all. */
ESPL_NODISCARD espl_status espl__folder_take(const char *path, int *fd, bool *taken, espl_diag *diag);

#endif
