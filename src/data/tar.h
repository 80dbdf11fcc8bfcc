/* Reads a tar archive, plain or packed by gzip, from member to member. It knows the formats v7, ustar, GNU
 * and pax (POSIX.1-2017, pax: "ustar Interchange Format", "pax Interchange Format"; GNU tar's manual, "Basic
 * Tar Format"). */
#ifndef ESPL_TAR_H
#define ESPL_TAR_H

#include "base/base.h"

struct gzFile_s; /* zlib's */

/* What headers of their own say about the member that follows, or about all that follow. */
typedef struct espl__tar_notes {
    espl__buffer name; /* empty: not said */
    uint64_t size;
    bool has_size, is_sparse;
} espl__tar_notes;

typedef struct espl__tar {
    espl_context *ctx;
    const char *path;
    int fd;              /* of a plain tar, else -1 */
    struct gzFile_s *gz; /* NULL: a plain tar */
    uint64_t file_size;  /* of a plain tar */
    /* Places in the uncompressed bytes: of the last header, where the reader stands, of the next header. */
    uint64_t header, at, next;
    bool is_pax;
    espl__tar_notes all, one;
    espl__buffer text;

    /* The member. */
    const char *name; /* NULL: the archive is at its end */
    uint64_t size;
    int64_t ordinal; /* counts all members, 0 is the first */
} espl__tar;

ESPL_NODISCARD espl_status espl__tar_open(espl_context *ctx, const char *path, espl__tar *tar,
                                          espl_diag *diag);
void espl__tar_close(espl__tar *tar);
/* Steps to the next member that is a file with all its bytes; folders, links, devices, sparse files and parts
 * are passed over. Its bytes begin at `at`. */
ESPL_NODISCARD espl_status espl__tar_next(espl__tar *tar, espl_diag *diag);
/* Reads the next `count` bytes. */
ESPL_NODISCARD espl_status espl__tar_read(espl__tar *tar, void *bytes, uint64_t count, espl_diag *diag);

#endif
