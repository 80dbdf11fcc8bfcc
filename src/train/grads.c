#include "train/grad.h"

#define X(name) extern const espl__grad espl__grad_##name;
#include "train/grads.list"
#undef X

static const espl__grad *const grads[] = {
#define X(name) &espl__grad_##name,
#include "train/grads.list"
#undef X
};

const espl__grad *espl__grad_at(int index) {
    return index >= 0 && (size_t)index < ESPL_COUNT(grads) ? grads[index] : NULL;
}

const espl__grad *espl__grad_find(const espl__op *op) {
    for (size_t i = 0; i < ESPL_COUNT(grads); i++)
        if (strcmp(grads[i]->op, op->name) == 0) return grads[i];
    return NULL;
}
