#define _GNU_SOURCE
/* Files for reading. */
#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAP_BYTES = 1 << 20 }; /* smaller files are read sooner than mapped */

double espl__now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Opens a regular file of at most `max` bytes (0: any number). */
static espl_status open_file(const char *path, uint64_t max, int *fd, uint64_t *size, espl_diag *diag) {
    struct stat st;
    espl_status status = ESPL_OK;
    do { /* without waiting: of a pipe for its other end */
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (*fd < 0 && errno == EINTR);
    if (*fd < 0) return espl__io_fail(diag, path, "cannot be opened");
    if (fstat(*fd, &st) != 0)
        status = espl__io_fail(diag, path, "cannot be read");
    else if (S_ISDIR(st.st_mode))
        status = espl__fail(diag, ESPL_IO, "%s: is a folder; give a file in it", path);
    else if (!S_ISREG(st.st_mode))
        status = espl__fail(diag, ESPL_IO, "%s: is not a file", path);
    else if (max && (uint64_t)st.st_size > max)
        status =
            espl__fail(diag, ESPL_LIMIT, "%s: has %" PRIu64 " bytes, more than the %" PRIu64 " allowed here",
                       path, (uint64_t)st.st_size, max);
    if (status == ESPL_OK)
        *size = (uint64_t)st.st_size;
    else
        close(*fd);
    return status;
}

/* What an open file holds, at most `size` bytes of it. */
static espl_status read_all(espl_context *ctx, const char *path, int fd, uint64_t size, uint8_t **data,
                            uint64_t *length, espl_diag *diag) {
    uint64_t done = 0;
    uint8_t *bytes = espl__alloc(ctx, size + 1);
    if (!bytes) return espl__nomem(diag, size + 1);
    while (done < size) {
        ssize_t n = read(fd, bytes + done, (size_t)(size - done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            espl_status status = espl__io_fail(diag, path, "cannot be read");
            espl__free(ctx, bytes);
            return status;
        }
        if (n == 0) break; /* the file shrank meanwhile */
        done += (uint64_t)n;
    }
    bytes[done] = 0;
    *data = bytes;
    *length = done;
    return ESPL_OK;
}

espl_status espl__file_read(espl_context *ctx, const char *path, uint64_t max, uint8_t **data,
                            uint64_t *length, espl_diag *diag) {
    int fd;
    uint64_t size = 0;
    *data = NULL;
    *length = 0;
    espl_status status = open_file(path, max, &fd, &size, diag);
    if (status != ESPL_OK) return status;
    status = read_all(ctx, path, fd, size, data, length, diag);
    close(fd);
    return status;
}

espl_status espl__file_peek(const char *path, void *bytes, size_t count, size_t *got, espl_diag *diag) {
    int fd;
    uint64_t size;
    ssize_t n;
    *got = 0;
    espl_status status = open_file(path, 0, &fd, &size, diag);
    if (status != ESPL_OK) return status;
    do {
        n = pread(fd, bytes, count, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        status = espl__io_fail(diag, path, "cannot be read");
    else
        *got = (size_t)n;
    close(fd);
    return status;
}

espl_status espl__file_map(espl_context *ctx, const char *path, espl__mapping *out, espl_diag *diag) {
    int fd;
    uint64_t size = 0;
    *out = (espl__mapping){.ctx = ctx};
    espl_status status = open_file(path, 0, &fd, &size, diag);
    if (status != ESPL_OK) return status;
    void *p = MAP_FAILED;
    if (size >= MAP_BYTES && size <= ESPL_MIN(espl__max_alloc(ctx), SIZE_MAX))
        p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p != MAP_FAILED) {
        *out = (espl__mapping){ctx, p, size, true};
    } else {
        uint8_t *bytes = NULL;
        status = read_all(ctx, path, fd, size, &bytes, &out->length, diag);
        out->data = bytes;
    }
    close(fd);
    return status;
}

void espl__file_unmap(espl__mapping *m) {
    if (m->mapped)
        munmap((void *)m->data, (size_t)m->length);
    else if (m->data)
        espl__free(m->ctx, (void *)m->data);
    *m = (espl__mapping){.ctx = m->ctx};
}

void espl__file_drop(const espl__mapping *m, const void *bytes, uint64_t count) {
    uintptr_t from = (uintptr_t)bytes, base = (uintptr_t)m->data;
    if (!m->mapped || from < base || from - base >= m->length || count == 0) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = ESPL_MIN(from + count, base + m->length);
    from = from / page * page;
    (void)madvise((void *)from, end - from, MADV_DONTNEED);
}
