/* Files and folders that appear whole or not at all. */
#ifndef ESPALIER_FILES_H
#define ESPALIER_FILES_H

#include <stdint.h>

#include "espalier/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes a file; the old one of that name stays if this fails. */
ESPL_NODISCARD espl_status espl_file_write(espl_context *ctx, const char *path, const void *data,
                                           uint64_t length, espl_diag *diag);
/* A folder: begin makes a temporary one beside `path` to fill with files and returns its name in *temporary;
 * commit puts it in the place of `path`, in one step together with the files that were there; end, always
 * called, removes what was not committed. A folder that holds folders, or lies where no step does that, gets
 * the files one by one. */
ESPL_NODISCARD espl_status espl_folder_begin(espl_context *ctx, const char *path, char **temporary,
                                             espl_diag *diag);
ESPL_NODISCARD espl_status espl_folder_commit(espl_context *ctx, const char *path, const char *temporary,
                                              espl_diag *diag);
void espl_folder_end(espl_context *ctx, char **temporary);

#ifdef __cplusplus
}
#endif
#endif
