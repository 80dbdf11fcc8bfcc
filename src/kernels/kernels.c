/* The sets: what each family defines for each instruction set, merged level by level. */
#include "kernels/kernels.h"

#include <pthread.h>
#include <string.h>

#include "kernels/families.h"

static espl__kernels own[ESPL__CPU_COUNT], complete[ESPL__CPU_COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
    espl__cpu level;
    const espl__kernels *family;
} rows[] = {
#define ROW(family, isa, LEVEL) {ESPL__CPU_##LEVEL, &espl__##family##_##isa},
    ESPL__KERNEL_FAMILIES(ROW)
#undef ROW
};

static void merge(espl__kernels *to, const espl__kernels *from) {
#define X(name, args) \
    if (from->name) to->name = from->name;
    ESPL__KERNEL_LIST(X)
#undef X
    if (from->conv_u8) { /* they belong together */
        to->prepare_room = from->prepare_room;
        to->prepare = from->prepare;
        to->s16_rate = from->s16_rate;
    }
    if (from->gemv_u8) to->sums = from->sums;
    if (from->csr_conv_u8) to->csr_codes = from->csr_codes;
}

static void build(void) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) merge(&own[rows[i].level], rows[i].family);
    for (int level = 0; level < ESPL__CPU_COUNT; level++) {
        if (level) complete[level] = complete[espl__cpu_below((espl__cpu)level)];
        merge(&complete[level], &own[level]);
    }
}

const espl__kernels *espl__kernels_own(espl__cpu level) {
    (void)pthread_once(&once, build);
    return &own[level];
}

const espl__kernels *espl__kernels_at(espl__cpu level) {
    (void)pthread_once(&once, build);
    return &complete[level];
}

espl__cpu espl__kernels_origin(espl__cpu level, const char *name) {
    for (;; level = espl__cpu_below(level)) {
        const espl__kernels *set = espl__kernels_own(level);
#define X(kernel, args) \
    if (set->kernel && !strcmp(name, #kernel)) return level;
        ESPL__KERNEL_LIST(X)
#undef X
        if (level == ESPL__CPU_REF) return ESPL__CPU_COUNT;
    }
}

const espl__kernels *espl__kernels_get(void) {
    return espl__kernels_at(espl__cpu_level());
}
