/* How the writer of .espl files stores the elements of constants. docs/format.md has every form bit by bit.
 */
#ifndef ESPL_CONTAINER_STORE_H
#define ESPL_CONTAINER_STORE_H

#include "runtime/container.h"
#include "tensor/sparse.h"

typedef enum espl__store_form {
    ESPL__STORE_PLAIN, /* as in memory; s64 one by one */
    ESPL__STORE_PACKED,
    ESPL__STORE_TABLE,
    ESPL__STORE_SHORT,
    ESPL__STORE_SPARSE
} espl__store_form;

typedef struct espl__store {
    espl__store_form form;
    uint64_t bytes; /* 0 of s64, which has one form */
    int bits;       /* TABLE: of an index; SHORT of s32: of an element */
    espl__sparse layout;
} espl__store;

/* What takes the fewest bytes of what a version has: out[0] up to 2, out[1] of 3. */
void espl__store_of(const espl__value *value, espl__store out[2]);
/* VALUE_TABLE and VALUE_SPARSE as the form asks. */
unsigned espl__store_flags(const espl__store *store);
/* store->bytes bytes; not for PLAIN. */
void espl__store_encode(const espl__store *store, const espl__value *value, uint8_t *out);

/* Lets the first of several constants that are the same, and not quantized, stand for the others, which
 * nobody reads then. Ids are without gaps. False without memory. */
bool espl__store_once(espl_graph *graph);

#endif
