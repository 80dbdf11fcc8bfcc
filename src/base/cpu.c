#include "base/cpu.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
#define NAME(NAME, name) name,
    ESPL__CPU_LIST(NAME)
#undef NAME
};

const char *espl__cpu_level_name(espl__cpu level) {
    return names[level];
}

espl__cpu espl__cpu_machine(void) {
#if defined(__x86_64__)
    __builtin_cpu_init(); /* also checks that the system saves the wide registers */
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return ESPL__CPU_REF;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return ESPL__CPU_AVX2;
    return __builtin_cpu_supports("avx512vnni") ? ESPL__CPU_AVX512VNNI : ESPL__CPU_AVX512;
#else
    return ESPL__CPU_REF;
#endif
}

espl__cpu espl__cpu_level(void) {
    static atomic_int cached = -1;
    int level = atomic_load(&cached);
    if (level >= 0) return (espl__cpu)level;
    level = (int)espl__cpu_machine();
    const char *cap = getenv("ESPL_CPU");
    for (int i = 0; cap && i < ESPL__CPU_COUNT; i++)
        if (strcmp(cap, names[i]) == 0 && i < level) level = i;
    atomic_store(&cached, level);
    return (espl__cpu)level;
}
