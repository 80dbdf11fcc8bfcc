/* A map from names to pointers that hostile names cannot slow down, and whether a name is UTF-8. */
#ifndef ESPL_NAMES_H
#define ESPL_NAMES_H

#include "base/base.h"

typedef struct espl__names {
    espl_context *ctx;
    struct espl__names_slot *slots;
    size_t count, capacity; /* capacity is a power of two or 0 */
    uint64_t key[2];
} espl__names;

void espl__names_init(espl__names *names, espl_context *ctx);
void espl__names_free(espl__names *names);
/* Adds a name, which is borrowed. ESPL_INVALID if it is there already, ESPL_NOMEM; diag is the caller's
 * business. */
espl_status espl__names_add(espl__names *names, const char *name, void *value);
/* NULL if absent. A name added with value NULL is found by espl__names_has only. */
void *espl__names_get(const espl__names *names, const char *name);
bool espl__names_has(const espl__names *names, const char *name);
bool espl__utf8(const char *text);
/* Bytes of the character that the text begins with; 0 if it is none, or NUL. */
int espl__utf8_length(const char *text);

#endif
