/* UTF-8 and the case of letters. */
#ifndef ESPL_LETTERS_H
#define ESPL_LETTERS_H

#include "espalier/tensor.h"

typedef enum espl__case { ESPL__CASE_KEPT, ESPL__CASE_LOWER, ESPL__CASE_UPPER } espl__case;

/* Bytes that a text of `bytes` may have in another case: what takes two may take three, and nothing grows
 * more. */
static inline uint64_t espl__case_bytes(uint64_t bytes) {
    return bytes > UINT64_MAX - bytes / 2 ? UINT64_MAX : bytes + bytes / 2;
}
/* Writes the text in that case to `out` and returns its length. Bytes that are not UTF-8 stay what they are.
 */
uint64_t espl__case_change(espl__case to, const espl_text *text, char *out);
/* Negative, 0 or positive as `a` stands before, with or after `b`, both in that case. */
int espl__case_compare(espl__case in, const espl_text *a, const espl_text *b);

#endif
