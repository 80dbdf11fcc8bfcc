#define _GNU_SOURCE /* syscall */
#include "base/cpu.h"

#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const names[] = {
#define NAME(NAME, name, BELOW) name,
    ESPL__CPU_LIST(NAME)
#undef NAME
};

static const espl__cpu below[] = {
#define BELOW(NAME, name, BELOW) ESPL__CPU_##BELOW,
    ESPL__CPU_LIST(BELOW)
#undef BELOW
};

espl__cpu espl__cpu_below(espl__cpu level) {
    return below[level];
}

const char *espl__cpu_level_name(espl__cpu level) {
    return names[level];
}

/* The cap of the environment; NULL: none. */
static const char *cap_of(void) {
    const char *cap = getenv("ESPL_CPU");
    return cap && *cap ? cap : NULL;
}

espl_status espl__cpu_check(espl_diag *diag) {
    char known[128] = "";
    const char *cap = cap_of();
    if (!cap) return ESPL_OK;
    for (int i = 0; i < ESPL__CPU_COUNT; i++) {
        if (strcmp(cap, names[i]) == 0) return ESPL_OK;
        strcat(strcat(known, i ? ", " : ""), names[i]);
    }
    return espl__fail(diag, ESPL_INVALID, "ESPL_CPU: '%s' is no instruction set; there are %s", cap, known);
}

#if defined(__x86_64__)
/* AMX: the processor has tiles of 8-bit integers (CPUID 7, EDX bits 24 and 25), the system saves them (XCR0
 * bits 17 and 18), and it grants them to this process: their state is large, so Linux wants to be asked
 * (Documentation/arch/x86/xstate.rst). Threads inherit the grant. */
static bool has_tiles(void) {
#if defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3) return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3 && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

/* CPUID 7, second page: EAX bit 4. With ESPL_EVEX_VNNI, for tests on machines with 512 bits, these kernels are written in the
 * other way that the same instruction has there (cmake/EspalierBuild.cmake). */
static bool has_vnni_256(void) {
#ifdef ESPL_EVEX_VNNI
    return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#endif
}
#endif

espl__cpu espl__cpu_machine(void) {
#if defined(__x86_64__)
    __builtin_cpu_init(); /* also checks that the system saves the wide registers */
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return ESPL__CPU_REF;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return has_vnni_256() ? ESPL__CPU_AVXVNNI : ESPL__CPU_AVX2;
    if (!__builtin_cpu_supports("avx512vnni")) return ESPL__CPU_AVX512;
    if (!__builtin_cpu_supports("avx512vbmi")) return ESPL__CPU_AVX512VNNI;
    return has_tiles() ? ESPL__CPU_AMX : ESPL__CPU_AVX512VBMI;
#else
    return ESPL__CPU_REF;
#endif
}

/* Found once: in a virtual machine it takes microseconds to ask the processor. */
bool espl__cpu_has(espl__cpu level) {
    static atomic_int levels = 0;
    int found = atomic_load(&levels);
    if (found == 0) {
        found = (2 << (int)espl__cpu_machine()) - 1;
#if defined(__x86_64__)
        if (!has_vnni_256()) found &= ~(1 << ESPL__CPU_AVXVNNI);
#endif
        atomic_store(&levels, found);
    }
    return found >> (int)level & 1;
}

static atomic_int cached = -1;

void espl__cpu_use(espl__cpu level) {
    atomic_store(&cached, (int)level);
}

espl__cpu espl__cpu_level(void) {
    int level = atomic_load(&cached);
    if (level >= 0) return (espl__cpu)level;
    level = (int)espl__cpu_machine();
    const char *cap = cap_of();
    for (int i = 0; cap && i < ESPL__CPU_COUNT; i++)
        if (strcmp(cap, names[i]) == 0 && i < level) level = i;
    while (!espl__cpu_has((espl__cpu)level)) level--;
    atomic_store(&cached, level);
    return (espl__cpu)level;
}

const char *espl__cpu_brand(char buf[ESPL__CPU_BRAND]) {
    strcpy(buf, "cpu");
#if defined(__x86_64__) && defined(__linux__)
    unsigned words[13] = {0};
    if ((unsigned)__get_cpuid_max(0x80000000u, NULL) < 0x80000004u) return buf;
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
    memcpy(buf, words, sizeof words);
    for (char *c = buf; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
#endif
    return buf;
}
