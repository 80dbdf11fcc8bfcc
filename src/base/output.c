/* Files and folders that appear whole or not at all. */
#define _GNU_SOURCE
#include "base/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "espalier/files.h"

/* Calls again what a signal broke off. */
#define RETRY(result, call) \
    do {                    \
        result = (call);    \
    } while ((result) < 0 && errno == EINTR)

static const char *remedy(int number) {
    switch (number) {
        case ENOSPC:
        case EDQUOT:
            return "; make room there or give another place";
        case EROFS:
            return "; give a place that can be written";
        case EIO:
            return "; look after the disk, or give another place";
        case EMFILE:
        case ENFILE:
            return "; allow more of them (ulimit -n)";
        default:
            return "";
    }
}

espl_status espl__io_fail(espl_diag *diag, const char *path, const char *what) {
    int number = errno;
    return espl__fail(diag, number == ENOMEM ? ESPL_NOMEM : ESPL_IO, "%s: %s: %s%s", path, what,
                      number == ENOMEM ? "out of memory" : strerror(number), remedy(number));
}

static char *format_path(espl_context *ctx, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *path = n < 0 ? NULL : espl__alloc(ctx, (uint64_t)n + 1);
    if (!path) return NULL;
    va_start(args, fmt);
    vsnprintf(path, (size_t)n + 1, fmt, args);
    va_end(args);
    return path;
}

char *espl__path_join(espl_context *ctx, const char *folder, const char *name) {
    size_t n = strlen(folder);
    return format_path(ctx, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

/* The path without its last slashes. */
static char *trimmed(espl_context *ctx, const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    return format_path(ctx, "%.*s", (int)n, path);
}

static char *temporary_of(espl_context *ctx, const char *path) {
    return format_path(ctx, "%s.%ld.part", path, (long)getpid());
}

/* --- folders, entry by entry ------------------------------------------------------------------------- */

/* The next entry beside "." and ".."; NULL at the end, with errno 0, or on an error. */
static const char *next_entry(DIR *dir) {
    struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(dir);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry ? entry->d_name : NULL;
}

/* Removes a folder of plain files; true if it is gone. It is read by the system's own call, as opendir needs
 * memory, the want of which may be why the folder goes. */
static bool remove_folder(const char *temporary) {
    union {
        struct dirent64 entry;
        char bytes[4096];
    } block;
    long n;
    int fd;
    RETRY(fd, open(temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (fd < 0) return errno == ENOENT;
    while ((n = syscall(SYS_getdents64, fd, block.bytes, sizeof block)) > 0)
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const void *)(block.bytes + at);
            (void)unlinkat(fd, e->d_name, 0); /* "." and ".." stay */
            at += e->d_reclen;
        }
    close(fd);
    return rmdir(temporary) == 0;
}

/* An error of the moment leaves nothing behind. */
void espl__dir_abort(espl_context *ctx, const char *temporary) {
    (void)ctx;
    if (!remove_folder(temporary)) (void)remove_folder(temporary);
}

/* The number in "base.1234.part"; 0 for any other name. */
static long process_of(const char *name, const char *base) {
    size_t n = strlen(base);
    char *end;
    if (strncmp(name, base, n) != 0 || name[n] != '.' || name[n + 1] < '1' || name[n + 1] > '9') return 0;
    long number = strtol(name + n + 1, &end, 10);
    return strcmp(end, ".part") == 0 ? number : 0;
}

/* Whoever writes a file has it locked; numbers of processes alone are not enough where containers share a
 * folder. */
static void remove_left_over(espl_context *ctx, const char *path) {
    struct stat st;
    if (lstat(path, &st) != 0) return;
    if (S_ISDIR(st.st_mode)) {
        espl__dir_abort(ctx, path);
    } else if (S_ISREG(st.st_mode)) {
        int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) unlink(path);
        if (fd >= 0) close(fd);
    }
}

/* The folder that `path` lies in. */
static char *parent_of(espl_context *ctx, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return format_path(ctx, ".");
    return format_path(ctx, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

void espl__sweep(espl_context *ctx, const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *folder = parent_of(ctx, path);
    DIR *dir = folder ? opendir(folder) : NULL;
    for (const char *name; dir && (name = next_entry(dir)) != NULL;) {
        long number = process_of(name, base);
        if (number <= 0 || number == (long)getpid() || kill((pid_t)number, 0) == 0 || errno != ESRCH)
            continue;
        char *left = espl__path_join(ctx, folder, name);
        if (left) remove_left_over(ctx, left);
        espl__free(ctx, left);
    }
    if (dir) closedir(dir);
    espl__free(ctx, folder);
}

/* Makes what happened to the names in a folder survive a power cut; a file system that cannot is no error. */
static bool sync_folder(const char *path) {
    int fd, result;
    RETRY(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) return true; /* perhaps a folder that may be written and not read */
    RETRY(result, fsync(fd));
    bool good = result == 0 || (errno != EIO && errno != ENOSPC && errno != EDQUOT);
    int number = errno;
    close(fd);
    errno = number;
    return good;
}

/* The folder that `path` was put into. */
static espl_status sync_parent(const char *folder, const char *path, espl_diag *diag) {
    if (sync_folder(folder)) return ESPL_OK;
    return espl__io_fail(diag, path, "is written, but may be lost when the power fails");
}

espl_status espl__folder_take(const char *path, int *fd, bool *taken, espl_diag *diag) {
    *taken = false;
    RETRY(*fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (*fd < 0) return espl__io_fail(diag, path, "cannot be opened");
    *taken = flock(*fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (*taken) return ESPL_OK;
    close(*fd);
    *fd = -1;
    return ESPL_OK;
}

/* --- a file ------------------------------------------------------------------------------------------ */

static bool write_all(int fd, const void *data, uint64_t length) {
    const char *p = data;
    while (length > 0) {
        ssize_t n;
        RETRY(n, write(fd, p, (size_t)ESPL_MIN(length, (uint64_t)1 << 30)));
        if (n < 0) return false;
        p += n;
        length -= (uint64_t)n;
    }
    int result;
    RETRY(result, fsync(fd));
    return result == 0;
}

static bool write_whole(const char *temporary, const char *path, const void *data, uint64_t length) {
    int fd, result;
    RETRY(fd, open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (fd < 0) return false;
    (void)flock(fd, LOCK_EX | LOCK_NB); /* for remove_left_over */
    bool good = write_all(fd, data, length);
    int number = errno;
    /* After EINTR the descriptor is gone all the same. */
    if (close(fd) != 0 && errno != EINTR && good) {
        number = errno;
        good = false;
    }
    if (good) {
        RETRY(result, rename(temporary, path));
        if (result == 0) return true;
        number = errno;
    }
    unlink(temporary);
    errno = number;
    return false;
}

espl_status espl__file_write(espl_context *ctx, const char *path, const void *data, uint64_t length,
                             espl_diag *diag) {
    espl_status status = ESPL_OK;
    char *temporary = temporary_of(ctx, path), *folder = temporary ? parent_of(ctx, path) : NULL;
    if (!folder) {
        status = espl__nomem(diag, strlen(path));
        goto done;
    }
    espl__sweep(ctx, path);
    status = write_whole(temporary, path, data, length) ? sync_parent(folder, path, diag)
                                                        : espl__io_fail(diag, path, "cannot be written");
done:
    espl__free(ctx, folder);
    espl__free(ctx, temporary);
    return status;
}

espl_status espl_file_write(espl_context *ctx, const char *path, const void *data, uint64_t length,
                            espl_diag *diag) {
    return espl__file_write(ctx, path, data, length, diag);
}

/* --- a folder ---------------------------------------------------------------------------------------- */

espl_status espl__dir_begin(espl_context *ctx, const char *path, char **temporary, espl_diag *diag) {
    espl_status status = ESPL_OK;
    struct stat st;
    int result;
    char *clean = trimmed(ctx, path), *t = clean ? temporary_of(ctx, clean) : NULL;
    *temporary = NULL;
    if (!t) {
        status = espl__nomem(diag, strlen(path));
        goto done;
    }
    if (stat(clean, &st) == 0 && !S_ISDIR(st.st_mode)) {
        status = espl__fail(diag, ESPL_IO, "%s: is a file where a folder is to be written", path);
        goto done;
    }
    espl__sweep(ctx, clean);
    espl__dir_abort(ctx, t); /* left by a killed process of the same number */
    RETRY(result, mkdir(t, 0777));
    if (result != 0) {
        status = espl__io_fail(diag, path, "cannot be created");
        goto done;
    }
    *temporary = t;
    t = NULL;
done:
    espl__free(ctx, t);
    espl__free(ctx, clean);
    return status;
}

/* Files of the old folder that the new one does not bring are the user's: they move along as links. *whole
 * becomes false if something cannot: folders, and files where there are no links. */
static espl_status keep_others(const char *path, const char *temporary, bool *whole, espl_diag *diag) {
    *whole = true;
    DIR *old = opendir(path), *new = opendir(temporary);
    if ((!old && errno != ENOENT) || !new) {
        espl_status status = espl__io_fail(diag, path, "cannot be replaced");
        if (old) closedir(old);
        if (new) closedir(new);
        return status;
    }
    const char *name = NULL;
    errno = 0;
    while (*whole && old && (name = next_entry(old)) != NULL) {
        int result;
        RETRY(result, linkat(dirfd(old), name, dirfd(new), name, 0));
        if (result != 0 && errno != EEXIST) *whole = false;
    }
    espl_status status = *whole && errno ? espl__io_fail(diag, path, "cannot be read") : ESPL_OK;
    if (old) closedir(old);
    closedir(new);
    return status;
}

/* Each file appears whole. Links to old files stay behind in the temporary folder. */
static bool move_each(espl_context *ctx, const char *temporary, const char *path) {
    DIR *from = opendir(temporary), *to = from ? opendir(path) : NULL;
    bool good = to != NULL;
    const char *name;
    while (good && (name = next_entry(from)) != NULL) {
        int result;
        RETRY(result, renameat(dirfd(from), name, dirfd(to), name));
        good = result == 0;
    }
    int number = errno; /* of what failed, or of the last next_entry */
    if (to) closedir(to);
    if (from) closedir(from);
    errno = number;
    if (!good || number) return false;
    espl__dir_abort(ctx, temporary);
    return true;
}

/* A new or empty folder is replaced by rename alone; a full one changes places with ours in one step. Not
 * every file system knows that step. */
static bool replace(espl_context *ctx, const char *temporary, const char *path) {
    int result;
    RETRY(result, rename(temporary, path));
    if (result == 0) return true;
    if (errno != ENOTEMPTY && errno != EEXIST) return false;
    RETRY(result, renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE));
    if (result == 0) espl__dir_abort(ctx, temporary);
    if (result != 0 && (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
        return move_each(ctx, temporary, path);
    return result == 0;
}

espl_status espl__dir_commit(espl_context *ctx, const char *path, const char *temporary, espl_diag *diag) {
    espl_status status = ESPL_OK;
    bool whole, good;
    char *clean = trimmed(ctx, path), *folder = clean ? parent_of(ctx, clean) : NULL;
    if (!folder) {
        status = espl__nomem(diag, strlen(path));
        goto done;
    }
    if (!sync_folder(temporary)) {
        status = espl__io_fail(diag, path, "cannot be written");
        goto done;
    }
    ESPL_TRY(keep_others(clean, temporary, &whole, diag));
    good = whole ? replace(ctx, temporary, clean) : move_each(ctx, temporary, clean);
    status = good ? sync_parent(folder, clean, diag) : espl__io_fail(diag, path, "cannot be written");
done:
    espl__free(ctx, folder);
    espl__free(ctx, clean);
    return status;
}

espl_status espl_folder_begin(espl_context *ctx, const char *path, char **temporary, espl_diag *diag) {
    return espl__dir_begin(ctx, path, temporary, diag);
}

espl_status espl_folder_commit(espl_context *ctx, const char *path, const char *temporary, espl_diag *diag) {
    return espl__dir_commit(ctx, path, temporary, diag);
}

void espl_folder_end(espl_context *ctx, char **temporary) {
    if (*temporary) espl__dir_abort(ctx, *temporary);
    espl__free(ctx, *temporary);
    *temporary = NULL;
}
