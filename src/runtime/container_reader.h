/* What the parts of the .espl reader share. Everything in the file is hostile until checked: counts against
 * the bytes that are left, ids against the lists. */
#ifndef ESPL_CONTAINER_READER_H
#define ESPL_CONTAINER_READER_H

#include "runtime/container.h"
#include "tensor/sparse.h"

typedef struct reader {
    const uint8_t *p, *end, *start;
    espl_graph *g;
    int version;
    int depth; /* of bodies in bodies */
    char string[CONTAINER_MAX_STRING + 1];
    const espl__op **ops;
    char **attrs;
    uint64_t op_count, attr_count;
    bool *derived;          /* by value: its scales follow from others */
    uint8_t *form;          /* by value: VALUE_TABLE, VALUE_SPARSE, both, or 0 */
    espl__sparse **sparse;  /* by value: the layout of a sparse one */
    uint64_t claimed;       /* bytes that the constants so far must have in the file */
    bool bad, left_in_file; /* left_in_file: some constant was */
} reader;

static inline uint64_t left(const reader *r) {
    return (uint64_t)(r->end - r->p);
}

static inline unsigned get_byte(reader *r) {
    if (r->p == r->end) {
        r->bad = true;
        return 0;
    }
    return *r->p++;
}

static inline void get_bytes(reader *r, void *out, uint64_t n) {
    if (n > left(r)) {
        r->bad = true;
        return;
    }
    if (n) memcpy(out, r->p, (size_t)n);
    r->p += n;
}

static inline uint64_t get_uint(reader *r) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        unsigned b = get_byte(r);
        v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return v;
    }
    r->bad = true;
    return 0;
}

static inline int64_t get_int(reader *r) {
    uint64_t v = get_uint(r);
    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

/* Behind the type, shape and quantization of a constant: how it is stored, and whether the file has bytes for
 * it. */
ESPL_NODISCARD espl_status espl__container_storage(reader *r, espl__value *v, unsigned flags,
                                                   espl_diag *diag);
/* So many strings, which borrow the file's bytes; espl__free them. */
ESPL_NODISCARD espl_status espl__container_texts(reader *r, int64_t count, espl_text **out, espl_diag *diag);
/* Its elements, as the storage says. */
ESPL_NODISCARD espl_status espl__container_elements(reader *r, espl__value *v, espl_diag *diag);

#endif
