#define _GNU_SOURCE
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
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

static espl_status io_fail(espl_diag *diag, const char *path, const char *what) {
    return espl__fail(diag, ESPL_IO, "%s: %s: %s", path, what, strerror(errno));
}

static char *format_path(espl_context *ctx, const char *fmt, ...) {
    espl__buffer b;
    espl__buffer_init(&b, ctx);
    char text[4096];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) return NULL;
    espl__buffer_append(&b, text, (size_t)n);
    return b.data;
}

char *espl__path_join(espl_context *ctx, const char *folder, const char *name) {
    size_t n = strlen(folder);
    return format_path(ctx, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

/* Opens a regular file of at most `max` bytes (0: any number). */
static espl_status open_file(const char *path, uint64_t max, int *fd, uint64_t *size, espl_diag *diag) {
    struct stat st;
    espl_status status = ESPL_OK;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return io_fail(diag, path, "cannot be opened");
    if (fstat(*fd, &st) != 0)
        status = io_fail(diag, path, "cannot be read");
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
            espl_status status = io_fail(diag, path, "cannot be read");
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

static bool write_all(int fd, const void *data, uint64_t length) {
    const char *p = data;
    while (length > 0) {
        ssize_t n = write(fd, p, (size_t)ESPL_MIN(length, (uint64_t)1 << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        p += n;
        length -= (uint64_t)n;
    }
    return true;
}

/* Makes a rename in the folder of `path` survive a power cut; a file system that cannot is no error. */
static void sync_folder(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof folder) return;
    memcpy(folder, slash ? path : ".", slash ? n : 1);
    folder[slash ? (n ? n : 1) : 1] = 0;
    if (slash && n == 0) folder[0] = '/';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

espl_status espl__file_write(espl_context *ctx, const char *path, const void *data, uint64_t length,
                             espl_diag *diag) {
    espl_status status = ESPL_OK;
    char *temporary = format_path(ctx, "%s.%ld.part", path, (long)getpid());
    if (!temporary) return espl__nomem(diag, strlen(path));
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        status = io_fail(diag, path, "cannot be written");
        goto done;
    }
    bool good = write_all(fd, data, length) && fsync(fd) == 0;
    int saved = errno;
    if (close(fd) != 0 && good) {
        saved = errno;
        good = false;
    }
    errno = saved;
    if (!good || rename(temporary, path) != 0) {
        status = io_fail(diag, path, "cannot be written");
        unlink(temporary);
        goto done;
    }
    sync_folder(path);
done:
    espl__free(ctx, temporary);
    return status;
}

static const char *trimmed(espl_context *ctx, const char *path, char **owned) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    return *owned = format_path(ctx, "%.*s", (int)n, path);
}

espl_status espl__dir_begin(espl_context *ctx, const char *path, char **temporary, espl_diag *diag) {
    char *clean;
    *temporary = NULL;
    if (!trimmed(ctx, path, &clean)) return espl__nomem(diag, strlen(path));
    struct stat st;
    if (stat(clean, &st) == 0 && !S_ISDIR(st.st_mode)) {
        espl__free(ctx, clean);
        return espl__fail(diag, ESPL_IO, "%s: is a file where a folder is to be written", path);
    }
    char *t = format_path(ctx, "%s.%ld.part", clean, (long)getpid());
    espl__free(ctx, clean);
    if (!t) return espl__nomem(diag, strlen(path));
    espl__dir_abort(ctx, t); /* left by a killed process of the same number */
    if (mkdir(t, 0777) != 0) {
        espl_status status = io_fail(diag, path, "cannot be created");
        espl__free(ctx, t);
        return status;
    }
    *temporary = t;
    return ESPL_OK;
}

/* Removes a folder of plain files. */
void espl__dir_abort(espl_context *ctx, const char *temporary) {
    DIR *dir = opendir(temporary);
    if (!dir) return;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *file = espl__path_join(ctx, temporary, entry->d_name);
        if (file) unlink(file);
        espl__free(ctx, file);
    }
    closedir(dir);
    rmdir(temporary);
}

/* Files of the old folder that the new one does not bring are the user's: they move along as links. */
static espl_status keep_others(espl_context *ctx, const char *path, const char *temporary, espl_diag *diag) {
    espl_status status = ESPL_OK;
    DIR *dir = opendir(path);
    if (!dir) return ESPL_OK;
    struct dirent *entry;
    while (status == ESPL_OK && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *from = espl__path_join(ctx, path, entry->d_name),
             *to = espl__path_join(ctx, temporary, entry->d_name);
        if (!from || !to)
            status = espl__nomem(diag, strlen(path));
        else if (link(from, to) != 0 && errno != EEXIST)
            status =
                espl__fail(diag, ESPL_IO, "%s: holds '%s', which is not a plain file; give an empty folder",
                           path, entry->d_name);
        espl__free(ctx, from);
        espl__free(ctx, to);
    }
    closedir(dir);
    return status;
}

espl_status espl__dir_commit(espl_context *ctx, const char *path, const char *temporary, espl_diag *diag) {
    char *clean;
    espl_status status = ESPL_OK;
    if (!trimmed(ctx, path, &clean)) return espl__nomem(diag, strlen(path));
    int fd = open(temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    status = keep_others(ctx, clean, temporary, diag);
    if (status != ESPL_OK) goto done;
    /* A new or empty folder is replaced by rename alone; a full one changes places with ours in one step. */
    if (rename(temporary, clean) != 0) {
        if ((errno == ENOTEMPTY || errno == EEXIST) &&
            renameat2(AT_FDCWD, temporary, AT_FDCWD, clean, RENAME_EXCHANGE) == 0)
            espl__dir_abort(ctx, temporary);
        else
            status = io_fail(diag, path, "cannot be replaced");
    }
    if (status == ESPL_OK) sync_folder(clean);
done:
    espl__free(ctx, clean);
    return status;
}
