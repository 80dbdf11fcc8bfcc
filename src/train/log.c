#include "train/log.h"

#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static espl_status trouble(const espl__train_log *l, const char *what, espl_diag *diag) {
    return espl__io_fail(diag, l->path, what);
}

/* Calls again what a signal broke off. */
#define RETRY(result, call) \
    do {                    \
        result = (call);    \
    } while ((result) < 0 && errno == EINTR)

/* To its first `length` bytes. */
static bool cut(const espl__train_log *l, int64_t length) {
    int result;
    RETRY(result, ftruncate(l->file, (off_t)length));
    return result == 0;
}

espl_status espl__train_log_open(espl_context *ctx, const char *path, int64_t keep, espl__train_log *l,
                                 espl_diag *diag) {
    struct stat st;
    *l = (espl__train_log){.ctx = ctx, .path = path, .file = -1};
    espl__buffer_init(&l->line, ctx);
    if (!path) return ESPL_OK;
    RETRY(l->file, open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    if (l->file < 0) return trouble(l, "cannot be opened", diag);
    if (fstat(l->file, &st) != 0) return trouble(l, "cannot be looked at", diag);
    l->regular = S_ISREG(st.st_mode);
    if (l->regular && flock(l->file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return espl__fail(diag, ESPL_IO, "%s: another training writes it; give another --log", path);
    if (l->regular && st.st_size > keep && !cut(l, keep)) return trouble(l, "cannot be cut short", diag);
    return ESPL_OK;
}

void espl__train_log_close(espl__train_log *l) {
    if (!l->ctx) return;
    if (l->file >= 0) close(l->file);
    espl__buffer_free(&l->line);
    *l = (espl__train_log){.file = -1};
}

void espl__train_log_begin(espl__train_log *l) {
    l->line.length = 0;
    if (l->file >= 0) espl__buffer_append(&l->line, "{", 1);
}

static void key_of(espl__train_log *l, const char *key) {
    espl__buffer_printf(&l->line, "%s\"%s\": ", l->line.length > 1 ? ", " : "", key);
}

void espl__train_log_int(espl__train_log *l, const char *key, int64_t value) {
    if (l->file < 0) return;
    key_of(l, key);
    espl__buffer_printf(&l->line, "%" PRId64, value);
}

void espl__train_log_real(espl__train_log *l, const char *key, double value) {
    char text[40];
    if (l->file < 0 || !isfinite(value)) return;
    snprintf(text, sizeof text, "%.9g", value);
    char *comma = strchr(text, ','); /* the decimal point of the program's locale */
    if (comma) *comma = '.';
    key_of(l, key);
    espl__buffer_printf(&l->line, "%s", text);
}

espl_status espl__train_log_end(espl__train_log *l, espl_diag *diag) {
    if (l->file < 0) return ESPL_OK;
    espl__buffer_append(&l->line, "}\n", 2);
    if (l->line.failed) return espl__nomem(diag, l->line.length);
    struct stat st;
    int64_t before = l->regular && fstat(l->file, &st) == 0 ? st.st_size : -1;
    for (size_t done = 0; done < l->line.length;) {
        ssize_t n;
        RETRY(n, write(l->file, l->line.data + done, l->line.length - done));
        if (n <= 0) {
            espl_status status = trouble(l, "cannot be written", diag);
            if (before >= 0) (void)cut(l, before); /* no half of a line */
            return status;
        }
        done += (size_t)n;
    }
    return ESPL_OK;
}

espl_status espl__train_log_sync(espl__train_log *l, int64_t *bytes, espl_diag *diag) {
    struct stat st;
    *bytes = 0;
    if (l->file < 0) return ESPL_OK;
    int result;
    RETRY(result, fsync(l->file));
    if (result != 0 && errno != EINVAL && errno != EROFS) return trouble(l, "cannot be written", diag);
    if (fstat(l->file, &st) != 0) return trouble(l, "cannot be looked at", diag);
    *bytes = st.st_size;
    return ESPL_OK;
}
