/* A bundle: many files in one place, a folder, a .tar or a .tar.gz. Listed once, sorted by name; nothing is
 * ever written to disk. Files of a folder and of a plain tar are read when asked for; those of a compressed
 * tar that are going to be needed are kept in memory, still encoded. */
#ifndef ESPL_DATA_BUNDLE_H
#define ESPL_DATA_BUNDLE_H

#include "data/data.h"

typedef struct espl__member {
    const char *name; /* relative, without "./" */
    uint64_t size;
    uint64_t offset; /* of its bytes in a plain tar */
    int64_t ordinal; /* place in the archive */
    uint8_t *bytes;  /* kept ones of a compressed tar */
    bool wanted;     /* set by the user before espl__bundle_keep */
} espl__member;

typedef enum espl__bundle_form {
    ESPL__BUNDLE_FOLDER,
    ESPL__BUNDLE_TAR,
    ESPL__BUNDLE_COMPRESSED
} espl__bundle_form;

typedef struct espl__bundle {
    espl_context *ctx;
    espl__arena arena;
    espl__bundle_form form;
    const char *path;
    int fd; /* of a plain tar, else -1 */
    espl__member *members;
    int64_t count, capacity;
    uint8_t *scratch; /* the last member read from disk */
    uint64_t scratch_size;
} espl__bundle;

ESPL_NODISCARD espl_status espl__bundle_open(espl_context *ctx, const char *path, espl__bundle *bundle,
                                             espl_diag *diag);
void espl__bundle_close(espl__bundle *bundle);
/* NULL if there is no such file. */
espl__member *espl__bundle_find(espl__bundle *bundle, const char *name);
/* Makes every wanted member readable. */
ESPL_NODISCARD espl_status espl__bundle_keep(espl__bundle *bundle, espl_diag *diag);
/* The bytes of a wanted member, borrowed until the next read. */
ESPL_NODISCARD espl_status espl__bundle_read(espl__bundle *bundle, const espl__member *member,
                                             const uint8_t **bytes, espl_diag *diag);

/* Largest file that is read as an image or a list of labels. */
#define ESPL__MEMBER_MAX ((uint64_t)64 << 20)

#endif
