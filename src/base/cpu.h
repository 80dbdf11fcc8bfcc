/* CPU features, found once, capped by ESPL_CPU (the names below). */
#ifndef ESPL_CPU_H
#define ESPL_CPU_H

#include <stdbool.h>

#include "espalier/context.h"

/* X(NAME, name, BELOW). Rising order; each level inherits from the one BELOW it. A machine runs all levels up to its own but
 * perhaps AVXVNNI, which processors with 512 bits need not have. The one list of instruction sets. */
#define ESPL__CPU_LIST(X)                   \
    X(REF, "ref", REF)                      \
    X(AVX2, "avx2", REF)                    \
    X(AVXVNNI, "avxvnni", AVX2)             \
    X(AVX512, "avx512", AVX2)               \
    X(AVX512VNNI, "avx512vnni", AVX512)     \
    X(AVX512VBMI, "avx512vbmi", AVX512VNNI) \
    X(AMX, "amx", AVX512VBMI)

typedef enum espl__cpu {
#define ESPL__CPU_ENUM(NAME, name, BELOW) ESPL__CPU_##NAME,
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
/* What the machine has, whatever ESPL_CPU says: its best level, and whether it runs one. */
espl__cpu espl__cpu_machine(void);
bool espl__cpu_has(espl__cpu level);
/* Walks the levels that the machine runs, from `first` to the one in use. */
#define ESPL__CPU_LEVELS(level, first)                                  \
    for (int level = (first); level <= (int)espl__cpu_level(); level++) \
        if (espl__cpu_has((espl__cpu)level))
/* The level that this one inherits from; REF for REF. */
espl__cpu espl__cpu_below(espl__cpu level);
const char *espl__cpu_level_name(espl__cpu level);
/* The processor's own name, "cpu" if it does not say; returns buf. */
enum { ESPL__CPU_BRAND = 52 };
const char *espl__cpu_brand(char buf[ESPL__CPU_BRAND]);

#endif
