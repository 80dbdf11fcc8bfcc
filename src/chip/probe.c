/* The profile of this machine: what the system tells, and what measure.c times. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cpu.h"
#include "chip/chip.h"

/* --- what the system tells --- */

/* First line of a small file; false if there is none. */
static bool first_line(const char *path, char *line, size_t size) {
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool ok = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return ok;
}

/* Cores, not hardware threads: a core counts once, at the first of its sibling threads. */
static uint32_t count_cores(void) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t cpus = online > 0 && online < 65536 ? (uint32_t)online : 1, cores = 0;
    for (uint32_t i = 0; i < cpus; i++) {
        char path[96], line[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", (unsigned)i);
        if (first_line(path, line, sizeof line) && strtoul(line, NULL, 10) == i) cores++;
    }
    return cores ? cores : cpus;
}

/* Size of the data cache of a level (1 to 3) in bytes, 0 if unknown or absent. */
static uint64_t cache_bytes(int level) {
    for (int index = 0; index < 8; index++) {
        char path[96], line[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (!first_line(path, line, sizeof line)) break;
        if (atoi(line) != level) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        if (!first_line(path, line, sizeof line) || line[0] == 'I') continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (!first_line(path, line, sizeof line)) continue;
        char *unit;
        unsigned long long size = strtoull(line, &unit, 10);
        return size > 1u << 30 ? 0 : size * (*unit == 'K' ? 1024u : *unit == 'M' ? 1024u * 1024 : 1);
    }
    return 0;
}

static uint64_t ram_bytes(void) {
#ifdef _SC_PHYS_PAGES
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0) return (uint64_t)pages * (uint64_t)page;
#endif
    return UINT64_C(1) << 30;
}

/* "model name : ..." of /proc/cpuinfo, printable characters only; "CPU" where there is none. */
static void cpu_model(char *name, size_t size) {
    char line[256];
    snprintf(name, size, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        colon += strspn(colon, ": \t");
        size_t n = 0;
        for (; *colon && n + 1 < size; colon++)
            if (*colon >= 0x20 && *colon < 0x7f) name[n++] = *colon;
        name[n] = 0;
        break;
    }
    fclose(file);
}

/* --- what is timed --- */

/* A measurement is not worth more than three digits. */
static double three_digits(double value) {
    char text[32];
    snprintf(text, sizeof text, "%.3g", value);
    return strtod(text, NULL);
}

typedef struct probe {
    char model[100], description[300], names[4][8];
    compute_row compute[3];
    memory_row memories[4];
    profile profile;
} probe;

static espl_status probe_compute(espl_context *ctx, probe *p, espl_diag *diag) {
    double quantized, single, clock = espl__measure_clock();
    espl_status status = espl__measure_macs(ctx, true, &quantized, diag);
    if (status == ESPL_OK) status = espl__measure_macs(ctx, false, &single, diag);
    if (status != ESPL_OK) return status;
    p->profile.clock_ghz = three_digits(clock / 1e9);
    quantized = three_digits(quantized / (p->profile.clock_ghz * 1e9));
    single = three_digits(single / (p->profile.clock_ghz * 1e9));
    /* s8 activations are stored as u8 by the kernels, so both cost the same. */
    p->compute[0] = (compute_row){.weights = ESPL_FORMAT_S8, .activations = ESPL_FORMAT_U8,
                                  .macs_per_cycle = quantized, .accumulator_bits = 32};
    p->compute[1] = p->compute[0];
    p->compute[1].activations = ESPL_FORMAT_S8;
    p->compute[2] = (compute_row){.weights = ESPL_FORMAT_F32, .activations = ESPL_FORMAT_F32,
                                  .macs_per_cycle = single, .accumulator_bits = 32};
    p->profile.compute = p->compute;
    p->profile.compute_count = 3;
    return ESPL_OK;
}

/* Adds a memory, measured with buffers of `probe_bytes`; one that is not larger than the last is not there
 * for us. */
static espl_status probe_memory(espl_context *ctx, probe *p, const char *name, uint64_t bytes,
                                uint64_t probe_bytes, bool shared, espl_diag *diag) {
    uint32_t n = p->profile.memory_count;
    if (n && bytes <= p->memories[n - 1].bytes) return ESPL_OK;
    double one = 0, all = 0;
    espl_status status = espl__measure_bandwidth(ctx, probe_bytes, false, &one, diag);
    if (status == ESPL_OK && shared) status = espl__measure_bandwidth(ctx, probe_bytes, true, &all, diag);
    if (status != ESPL_OK) return status;
    snprintf(p->names[n], sizeof p->names[n], "%s", name);
    p->memories[n] = (memory_row){.name = p->names[n], .bytes = bytes, .shared = shared,
                                  .gb_per_s = three_digits(ESPL_MAX(one, all) / 1e9),
                                  .core_gb_per_s = shared ? three_digits(one / 1e9) : 0};
    p->profile.memory_count = n + 1;
    return ESPL_OK;
}

static espl_status probe_memories(espl_context *ctx, probe *p, espl_diag *diag) {
    espl_status status = ESPL_OK;
    uint64_t l1 = cache_bytes(1), l2 = cache_bytes(2), l3 = cache_bytes(3), ram = ram_bytes();
    if (!l1) l1 = 32 * 1024;
    p->profile.memories = p->memories;
    ESPL_TRY(probe_memory(ctx, p, "L1", l1, l1 / 2, false, diag));
    if (l2) ESPL_TRY(probe_memory(ctx, p, "L2", l2, l2 / 2, false, diag));
    /* Well past L2, but less than half of L3: on a rented machine neighbours use their share of it. */
    uint64_t middle = (uint64_t)sqrt((double)ESPL_MAX(l2, l1) * (double)l3);
    if (l3) ESPL_TRY(probe_memory(ctx, p, "L3", l3, ESPL_MIN(l3 / 2, middle), true, diag));
    /* Large enough that little of it is in a cache when its turn comes again, small enough for small machines. */
    uint64_t beyond = ESPL_MIN(ESPL_MAX(ESPL_MAX(l2, l3) * 2, 64u << 20), ESPL_MIN(ram / 8, 256u << 20));
    ESPL_TRY(probe_memory(ctx, p, "DRAM", ram, beyond, true, diag));
done:
    return status;
}

static espl_status probe_text(espl_context *ctx, probe *p, espl__buffer *text, espl_diag *diag) {
    char name[] = "host", isa[20];
    snprintf(isa, sizeof isa, "%s", espl__cpu_level_name(espl__cpu_level()));
    cpu_model(p->model, sizeof p->model);
    snprintf(p->description, sizeof p->description, "%s, measured with the %s kernels", p->model, isa);
    p->profile.name = name;
    p->profile.isa = isa;
    p->profile.description = p->description;
    p->profile.backend = ESPL_BACKEND_HOST;
#if defined(__x86_64__) || defined(__i386__)
    p->profile.flavour = FLAVOUR_ORT_X86;
#endif
    p->profile.cores = count_cores();
    p->profile.channel_multiple = 16; /* output channels are packed in blocks of 16 (kernels.h) */
    p->profile.fpu = true;
    espl_status status = probe_compute(ctx, p, diag);
    if (status == ESPL_OK) status = probe_memories(ctx, p, diag);
    if (status != ESPL_OK) return status;
    p->profile.layer_start_us = three_digits(espl__measure_dispatch(ctx) * 1e6);
    espl__buffer_printf(
        text, "# Measured, not looked up: rates are those that the kernels and plain reads reached.\n");
    return espl__chip_emit(ctx, &p->profile, text, diag);
}

espl_status espl_chip_probe(espl_context *ctx, espl_chip **out, espl_diag *diag) {
    *out = NULL;
    probe p = {.profile = {.cores = 1}};
    espl__buffer text;
    espl__buffer_init(&text, ctx);
    espl_status status = probe_text(ctx, &p, &text, diag);
    if (status == ESPL_OK) status = espl_chip_parse(ctx, "host", text.data, text.length, out, diag);
    espl__buffer_free(&text);
    return status;
}
