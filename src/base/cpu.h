/* CPU features, found once, capped by ESPL_CPU=ref|avx2|avx512|avx512vnni|avx512vbmi|amx. */
#ifndef ESPL_CPU_H
#define ESPL_CPU_H

#include "espalier/context.h"

/* X(NAME, name). Rising order: each level runs everything below it. The one list of instruction sets. */
#define ESPL__CPU_LIST(X) \
    X(REF, "ref")         \
    X(AVX2, "avx2")       \
    X(AVX512, "avx512")   \
    X(AVX512VNNI, "avx512vnni") \
    X(AVX512VBMI, "avx512vbmi") \
    X(AMX, "amx")

typedef enum espl__cpu {
#define ESPL__CPU_ENUM(NAME, name) ESPL__CPU_##NAME,
    ESPL__CPU_LIST(ESPL__CPU_ENUM)
#undef ESPL__CPU_ENUM
        ESPL__CPU_COUNT
} espl__cpu;

/* The level in use: what the machine has, capped by ESPL_CPU. */
espl__cpu espl__cpu_level(void);
/* Fails if ESPL_CPU is none of the names; contexts ask. */
ESPL_NODISCARD espl_status espl__cpu_check(espl_diag *diag);
/* For tests: sessions from now on use this level, which the machine must have. */
void espl__cpu_use(espl__cpu level);
/* What the machine has, whatever ESPL_CPU says. */
espl__cpu espl__cpu_machine(void);
const char *espl__cpu_level_name(espl__cpu level);
/* The processor's own name, "cpu" if it does not say; returns buf. */
enum { ESPL__CPU_BRAND = 52 };
const char *espl__cpu_brand(char buf[ESPL__CPU_BRAND]);

#endif
