/* Tensor data outside the model's file. The location comes from a hostile file: it is opened one component at a time
 * from the model's folder, no component may be "..", and none may be a symbolic link, so there is no way out and
 * nothing to race against. */
#define _GNU_SOURCE
#include "base/output.h"
#include "onnx/onnx_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

/* All external data of a model together; several tensors may share bytes, so the file's size is no bound. */
#define MAX_TOTAL ((uint64_t)16 << 30)

void espl__external_init(espl__external *e, espl_context *ctx, const char *model_path) {
    *e = (espl__external){.model_path = model_path, .fd = -1, .ctx = ctx};
}

void espl__external_close(espl__external *e) {
    if (e->fd >= 0) close(e->fd);
    e->fd = -1;
    espl__free(e->ctx, e->open_location);
    e->open_location = NULL;
}

static int open_model_folder(const char *model_path) {
    char folder[4096] = ".";
    const char *slash = strrchr(model_path, '/');
    if (slash) {
        size_t n = slash == model_path ? 1 : (size_t)(slash - model_path);
        if (n >= sizeof folder) return -1;
        memcpy(folder, model_path, n);
        folder[n] = 0;
    }
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Walks `location` down from the model's folder. */
static espl_status open_below(const char *model_path, const char *location, int *out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    char part[256];
    int dir = open_model_folder(model_path);
    *out = -1;
    if (dir < 0) return espl__io_fail(diag, model_path, "its folder cannot be opened");
    if (location[0] == '/') {
        status = espl__fail(diag, ESPL_FORMAT, "external data '%s' lies outside the model's folder", location);
        goto done;
    }
    for (const char *p = location; *p;) {
        size_t n = strcspn(p, "/");
        const char *next = p + n + strspn(p + n, "/");
        if (n >= sizeof part || (n == 2 && p[0] == '.' && p[1] == '.')) {
            status = espl__fail(diag, ESPL_FORMAT, "external data '%s' lies outside the model's folder", location);
            goto done;
        }
        memcpy(part, p, n);
        part[n] = 0;
        /* NONBLOCK: a pipe must not hang us before fstat sees that it is none of ours. */
        int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (*next ? O_DIRECTORY : O_NONBLOCK);
        int fd = openat(dir, part, flags);
        if (fd < 0) {
            struct stat st;
            bool link = fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
            status = link ? espl__fail(diag, ESPL_FORMAT,
                                       "external data '%s' goes through the symbolic link '%s'; put the file itself "
                                       "into the model's folder", location, part)
                          : espl__fail(diag, ESPL_IO, "external data '%s' cannot be opened in the model's folder: %s",
                                       location, strerror(errno));
            goto done;
        }
        close(dir);
        dir = fd;
        p = next;
    }
    *out = dir;
    dir = -1;
done:
    if (dir >= 0) close(dir);
    return status;
}

static espl_status open_location(espl__external *e, const char *location, espl_diag *diag) {
    struct stat st;
    if (e->open_location && strcmp(e->open_location, location) == 0) return ESPL_OK;
    espl__external_close(e);
    espl_status status = open_below(e->model_path, location, &e->fd, diag);
    if (status != ESPL_OK) return status;
    if (fstat(e->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return espl__fail(diag, ESPL_FORMAT, "external data '%s' is not a file", location);
    e->size = (uint64_t)st.st_size;
    e->open_location = espl__calloc(e->ctx, strlen(location) + 1, 1);
    if (!e->open_location) return espl__nomem(diag, strlen(location) + 1);
    memcpy(e->open_location, location, strlen(location));
    return ESPL_OK;
}

/* A decimal number and nothing else. */
static bool parse_u64(const char *text, uint64_t *out) {
    uint64_t v = 0;
    if (!*text) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || v > (UINT64_MAX - 9) / 10) return false;
        v = v * 10 + (uint64_t)(*text - '0');
    }
    *out = v;
    return true;
}

espl_status espl__external_open(espl__external *e, const pb_tensor *proto, uint64_t bytes, uint64_t *offset,
                                espl_diag *diag) {
    const char *location = "";
    uint64_t length = bytes;
    *offset = 0;
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const char *key = proto->external_data[i]->key, *value = proto->external_data[i]->value;
        bool good = true;
        if (!key || !value) continue;
        if (strcmp(key, "location") == 0)
            location = value;
        else if (strcmp(key, "offset") == 0)
            good = parse_u64(value, offset);
        else if (strcmp(key, "length") == 0)
            good = parse_u64(value, &length);
        if (!good) return espl__fail(diag, ESPL_FORMAT, "external data: %s '%s' is not a number", key, value);
    }
    if (!*location) return espl__fail(diag, ESPL_FORMAT, "external data without a location");
    if (length != bytes)
        return espl__fail(diag, ESPL_FORMAT,
                          "external data '%s' has %" PRIu64 " bytes where type and shape ask for %" PRIu64, location,
                          length, bytes);
    if (bytes > MAX_TOTAL - e->total)
        return espl__fail(diag, ESPL_LIMIT, "external data of more than %" PRIu64 " bytes are not read", MAX_TOTAL);
    espl_status status = open_location(e, location, diag);
    if (status != ESPL_OK) return status;
    if (*offset > e->size || bytes > e->size - *offset)
        return espl__fail(diag, ESPL_FORMAT,
                          "external data '%s' end at byte %" PRIu64 ", before the %" PRIu64 " bytes from %" PRIu64
                          " that the tensor needs", location, e->size, bytes, *offset);
    e->total += bytes;
    return ESPL_OK;
}

espl_status espl__external_read(espl__external *e, uint64_t offset, void *data, uint64_t bytes, espl_diag *diag) {
    for (uint64_t done = 0; done < bytes;) {
        size_t want = (size_t)ESPL_MIN(bytes - done, (uint64_t)1 << 30);
        ssize_t n = pread(e->fd, (char *)data + done, want, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return espl__fail(diag, ESPL_IO, "external data '%s' cannot be read: %s", e->open_location,
                              n < 0 ? strerror(errno) : "the file became shorter");
        done += (uint64_t)n;
    }
    return ESPL_OK;
}
