#include "base/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/context_impl.h"
#include "base/cpu.h"

enum { FILE_MAX = 1 << 20, ENTRIES_MAX = 1 << 14 };

/* The context's own memory: not counted with what is alive in it. */
struct espl__tuned {
    struct espl__tuned *next;
    double gain;
    char key[ESPL__TUNE_KEY];
};

bool espl__tune_allowed(void) {
    const char *text = getenv("ESPL_TUNE");
    return !text || strcmp(text, "0") != 0;
}

static struct espl__tuned *find(espl_context *ctx, const char *key) {
    struct espl__tuned *t = ctx->tuned;
    while (t && strcmp(t->key, key) != 0) t = t->next;
    return t;
}

double espl__tune_find(espl_context *ctx, const char *key) {
    pthread_mutex_lock(&ctx->tuning);
    const struct espl__tuned *t = find(ctx, key);
    double gain = t ? t->gain : 0;
    pthread_mutex_unlock(&ctx->tuning);
    return gain;
}

void espl__tune_keep(espl_context *ctx, const char *key, double gain) {
    if (strlen(key) >= ESPL__TUNE_KEY || !(gain > 0) || !isfinite(gain)) return;
    pthread_mutex_lock(&ctx->tuning);
    struct espl__tuned *t = find(ctx, key);
    if (!t && ctx->tuned_count < ENTRIES_MAX &&
        (t = ctx->config.alloc(ctx->config.user, sizeof *t)) != NULL) {
        snprintf(t->key, sizeof t->key, "%s", key);
        t->next = ctx->tuned;
        ctx->tuned = t;
        ctx->tuned_count++;
    }
    if (t) t->gain = gain;
    pthread_mutex_unlock(&ctx->tuning);
}

void espl__tune_free(espl_context *ctx) {
    while (ctx->tuned) {
        struct espl__tuned *t = ctx->tuned;
        ctx->tuned = t->next;
        ctx->config.free(ctx->config.user, t);
    }
    ctx->tuned_count = 0;
}

/* --- files ------------------------------------------------------------------------------ */

/* What was measured holds for this version, this processor and these kernels: the first line of a file. */
static void heading(char *buf, size_t size) {
    char brand[ESPL__CPU_BRAND];
    snprintf(buf, size, "# espalier %s, %s, %s\n", espl_version(), espl__cpu_brand(brand), espl_cpu_name());
}

/* "1.234 key\n"; false for anything else. */
static bool read_line(espl_context *ctx, const char *line, size_t length) {
    char text[ESPL__TUNE_KEY + 32], *key;
    if (length >= sizeof text) return false;
    memcpy(text, line, length);
    text[length] = 0;
    double gain = strtod(text, &key);
    if (key == text || *key != ' ' || !key[1] || !(gain > 0) || !isfinite(gain)) return false;
    espl__tune_keep(ctx, key + 1, gain);
    return true;
}

espl_status espl_tune_read(espl_context *ctx, const char *path, espl_diag *diag) {
    char first[128];
    uint8_t *data = NULL;
    uint64_t length;
    espl_status status = espl__file_read(ctx, path, FILE_MAX, &data, &length, diag);
    if (status != ESPL_OK) return status;
    heading(first, sizeof first);
    const char *text = (const char *)data, *end = text + length;
    if (strncmp(text, first, strlen(first)) == 0)
        for (text += strlen(first); text < end;) {
            size_t line = strcspn(text, "\n");
            (void)read_line(ctx, text, line);
            text += line + 1;
        }
    espl__free(ctx, data);
    return ESPL_OK;
}

espl_status espl_tune_write(espl_context *ctx, const char *path, espl_diag *diag) {
    uint64_t room = 128 + (uint64_t)ctx->tuned_count * (ESPL__TUNE_KEY + 32), used;
    char *text = espl__alloc(ctx, room);
    if (!text) return espl__nomem(diag, room);
    heading(text, 128);
    used = strlen(text);
    pthread_mutex_lock(&ctx->tuning);
    for (const struct espl__tuned *t = ctx->tuned; t && room - used > ESPL__TUNE_KEY + 32; t = t->next)
        used += (uint64_t)snprintf(text + used, (size_t)(room - used), "%.4g %s\n", t->gain, t->key);
    pthread_mutex_unlock(&ctx->tuning);
    espl_status status = espl__file_write(ctx, path, text, used, diag);
    espl__free(ctx, text);
    return status;
}

int espl_tune_count(const espl_context *ctx) {
    return ctx->tuned_count;
}
