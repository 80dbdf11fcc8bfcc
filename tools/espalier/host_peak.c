#include "host_peak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files.h"

enum { PROFILE_MAX = 65536 };

/* "# espalier 0.1.0, Some CPU, avx2": a profile is good for this version, this CPU and these kernels. */
static void key_line(char *buf, size_t size) {
    char line[256], model[200] = "CPU";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        snprintf(model, sizeof model, "%s", colon + 1 + (colon[1] == ' '));
        model[strcspn(model, "\n")] = 0;
        break;
    }
    if (file) fclose(file);
    snprintf(buf, size, "# espalier %s, %s, %s\n", espl_version(), model, espl_cpu_name());
}

/* ~/.cache/espalier, made if it is not there; NULL where there is no home. To be freed with free(). */
static char *cache_folder(void) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *base = cache && cache[0] == '/' ? join(cache, "")
                 : home && home[0] == '/' ? join(home, ".cache")
                                          : NULL;
    char *folder = base ? join(base, "espalier") : NULL;
    if (folder) {
        (void)mkdir(base, 0700); /* there already, or its absence shows when the file is written */
        (void)mkdir(folder, 0700);
    }
    free(base);
    return folder;
}

/* The kept profile; false if there is none that holds for this machine. */
static bool read_kept(cli *c, const char *path, const char *key, espl_chip **out) {
    char *text = malloc(PROFILE_MAX);
    FILE *file = text ? fopen(path, "r") : NULL;
    size_t n = file ? fread(text, 1, PROFILE_MAX, file) : 0, length = strlen(key);
    bool good = n > length && n < PROFILE_MAX && memcmp(text, key, length) == 0;
    if (file) fclose(file);
    if (good) good = espl_chip_parse(c->ctx, path, text, n, out, NULL) == ESPL_OK;
    free(text);
    return good;
}

/* Keeping is a courtesy: where it cannot be done the next call measures again. */
static void keep(cli *c, const char *path, const char *key, const espl_chip *chip) {
    const char *profile = espl_chip_text(chip);
    size_t size = strlen(key) + strlen(profile) + 1;
    char *text = malloc(size);
    if (!text) return;
    snprintf(text, size, "%s%s", key, profile);
    espl_diag before = c->diag;
    if (write_text(c, path, text) != ESPL_OK) c->diag = before;
    free(text);
}

static char *kept_path(const char *name) {
    char *folder = cache_folder(), *path = folder ? join(folder, name) : NULL;
    free(folder);
    return path;
}

/* One file an instruction set: ESPL_CPU may cap it for a call. */
static char *choices_path(void) {
    char name[64];
    snprintf(name, sizeof name, "choices-%s.txt", espl_cpu_name());
    return kept_path(name);
}

int read_choices(cli *c) {
    char *path = choices_path();
    if (path) (void)!espl_tune_read(c->ctx, path, NULL); /* there may be none yet */
    free(path);
    return espl_tune_count(c->ctx);
}

void keep_choices(cli *c) {
    char *path = choices_path();
    if (path) (void)!espl_tune_write(c->ctx, path, NULL); /* a courtesy, as above */
    free(path);
}

void keep_host_chip(cli *c, const espl_chip *chip) {
    char key[512], *path = kept_path("host.yaml");
    key_line(key, sizeof key);
    if (path) keep(c, path, key, chip);
    free(path);
}

espl_status host_chip(cli *c, espl_chip **out) {
    char key[512], *path = kept_path("host.yaml");
    espl_status status = ESPL_OK;
    key_line(key, sizeof key);
    if (!path || !read_kept(c, path, key, out)) {
        note(c, "measuring this machine, a few seconds");
        status = espl_chip_probe(c->ctx, out, &c->diag);
        if (status == ESPL_OK && path) keep(c, path, key, *out);
    }
    free(path);
    return status;
}

double peak_gops(const espl_chip *host, const char *name, int threads) {
    espl_format format;
    espl_chip_compute best;
    if (!host || !name || !espl_format_parse(name, &format)) return 0;
    if (!espl_chip_find_compute(host, format, format, &best) &&
        !espl_chip_find_compute(host, format, ESPL_FORMAT_U8, &best))
        return 0;
    int cores = threads < espl_chip_cores(host) ? threads : espl_chip_cores(host);
    return 2 * best.macs_per_cycle * espl_chip_clock_ghz(host) * cores;
}

void layer_limits(const espl_chip *host, const espl_layer *layer, uint64_t resident_bytes, int threads,
                  double *compute_ms, double *memory_ms) {
    espl_format format;
    *compute_ms = *memory_ms = 0;
    if (!host || !layer->format || !espl_format_parse(layer->format, &format)) return;
    espl_chip_layer l = {.macs = layer->macs,
                         .weight_format = format,
                         .activation_format =
                             espl_chip_supports(host, format, format) ? format : ESPL_FORMAT_U8,
                         .weight_bytes = layer->weight_bytes,
                         .input_bytes = layer->activation_bytes,
                         .cores = threads,
                         .resident_bytes = resident_bytes};
    espl_chip_layer_limits(host, &l, compute_ms, memory_ms);
    *compute_ms = isfinite(*compute_ms) ? 1e3 * *compute_ms : 0;
    *memory_ms *= 1e3;
}
