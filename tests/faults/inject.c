/* A library to preload: lets the n-th call of some kind fail, or counts such calls. What fails is told by
 * INJECT:
 *
 *   KIND:N:WHAT[:on]     the N-th call (1 is the first; 0: none) fails as WHAT says; with `on` all later ones
 * too
 *
 *   write   open for writing, write, pwrite, fsync, ftruncate, rename, link, mkdir, close of what was
 * written; WHAT is an errno by name, or `short`: a write takes half of the bytes read    open for reading,
 * read, pread, mmap of a file, fopen, fread alloc   malloc, calloc, realloc, aligned_alloc, posix_memalign;
 * WHAT is ENOMEM thread  pthread_create clock   the time of day jumps an hour back and two hours forth in
 * turn; N and WHAT mean nothing
 *
 * INJECT_COUNT names a file that gets the number of calls when the process ends. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum kind { NONE, WRITE, READ, ALLOC, THREAD, CLOCK };
enum { MAX_FD = 1024 };

static enum kind kind;
static int error;
static bool half, from_then_on, ready;
static long at;
static atomic_long calls;
static atomic_bool written[MAX_FD]; /* file descriptors that were opened for writing */
static __thread bool inside;        /* dlsym may allocate */

static const struct {
    const char *name;
    int number;
} errors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EDQUOT", EDQUOT}, {"EINTR", EINTR},
              {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN}, {"EROFS", EROFS},   {"EINVAL", EINVAL}};
static const char *const kinds[] = {"", "write", "read", "alloc", "thread", "clock"};

/* By hand: what reads numbers and texts in the C library may allocate. */
__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("INJECT");
    for (enum kind k = WRITE; text && k <= CLOCK; k++) {
        size_t n = strlen(kinds[k]);
        if (strncmp(text, kinds[k], n) != 0 || text[n] != ':') continue;
        const char *p = text + n + 1;
        for (; *p >= '0' && *p <= '9'; p++) at = at * 10 + (*p - '0');
        p += *p == ':';
        size_t length = strcspn(p, ":");
        for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
            if (strlen(errors[i].name) == length && strncmp(errors[i].name, p, length) == 0)
                error = errors[i].number;
        half = length == 5 && strncmp(p, "short", 5) == 0;
        from_then_on = strcmp(p + length, ":on") == 0;
        kind = k;
    }
    ready = true;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("INJECT_COUNT");
    char text[32];
    if (!path || kind == NONE) return;
    int length = 0;
    char digits[24];
    long n = atomic_load(&calls);
    do {
        digits[length++] = (char)('0' + n % 10);
    } while ((n /= 10) > 0);
    for (int i = 0; i < length; i++) text[i] = digits[length - 1 - i];
    text[length++] = '\n';
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) return;
    (void)!syscall(SYS_write, fd, text, (size_t)length);
    syscall(SYS_close, fd);
}

/* Counts a call of this kind; true if it is the one to fail. */
static bool hit(enum kind k) {
    if (!ready || k != kind || inside) return false;
    long n = atomic_fetch_add(&calls, 1) + 1;
    return at > 0 && (n == at || (from_then_on && n > at));
}

static bool fails(enum kind k) {
    if (!hit(k) || half) return false;
    errno = error;
    return true;
}

/* What the C library has under that name. */
static void *next(const char *name) {
    inside = true;
    void *found = dlsym(RTLD_NEXT, name);
    inside = false;
    return found;
}

/* --- files ------------------------------------------------------------------------------------------- */

static bool writes(int flags) {
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
}

static int opened(int fd, int flags) {
    if (fd >= 0 && fd < MAX_FD) atomic_store(&written[fd], writes(flags));
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (fails(writes(flags) ? WRITE : READ)) return -1;
    return opened((int)syscall(SYS_openat, AT_FDCWD, path, flags, mode), flags);
}

int openat(int folder, const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (fails(writes(flags) ? WRITE : READ)) return -1;
    return opened((int)syscall(SYS_openat, folder, path, flags, mode), flags);
}

/* Half of the bytes, at least one, if this is the call that falls short. */
static size_t taken(size_t bytes) {
    return hit(WRITE) && bytes > 1 ? bytes / 2 : bytes;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    if (half)
        bytes = taken(bytes);
    else if (fails(WRITE))
        return -1;
    return syscall(SYS_write, fd, data, bytes);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    if (half)
        bytes = taken(bytes);
    else if (fails(WRITE))
        return -1;
    return syscall(SYS_pwrite64, fd, data, bytes, offset);
}

/* A descriptor is gone after close, whatever close returns. */
int close(int fd) {
    bool own = fd >= 0 && fd < MAX_FD && atomic_exchange(&written[fd], false);
    int result = (int)syscall(SYS_close, fd);
    return own && fails(WRITE) ? -1 : result;
}

int fsync(int fd) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_fdatasync, fd);
}
int ftruncate(int fd, off_t length) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}
int mkdir(const char *path, mode_t mode) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
int link(const char *from, const char *to) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int rename(const char *from, const char *to) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_renameat2, a, from, b, to, flags);
}

ssize_t read(int fd, void *data, size_t bytes) {
    return fails(READ) ? -1 : syscall(SYS_read, fd, data, bytes);
}
ssize_t pread(int fd, void *data, size_t bytes, off_t offset) {
    return fails(READ) ? -1 : syscall(SYS_pread64, fd, data, bytes, offset);
}

void *mmap(void *where, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (fd >= 0 && fails(READ)) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, where, bytes, protection, flags, fd, offset);
}

FILE *fopen(const char *path, const char *mode) {
    typedef FILE *(*type)(const char *, const char *);
    return fails(mode[0] == 'r' ? READ : WRITE) ? NULL : ((type)next("fopen"))(path, mode);
}

size_t fread(void *data, size_t size, size_t count, FILE *file) {
    typedef size_t (*type)(void *, size_t, size_t, FILE *);
    return fails(READ) ? 0 : ((type)next("fread"))(data, size, count, file);
}

/* --- memory ------------------------------------------------------------------------------------------ */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t bytes) {
    return fails(ALLOC) ? NULL : __libc_malloc(bytes);
}
void *calloc(size_t count, size_t size) {
    return fails(ALLOC) ? NULL : __libc_calloc(count, size);
}
void *realloc(void *old, size_t bytes) {
    return fails(ALLOC) ? NULL : __libc_realloc(old, bytes);
}
void *memalign(size_t alignment, size_t bytes) {
    return fails(ALLOC) ? NULL : __libc_memalign(alignment, bytes);
}
void *aligned_alloc(size_t alignment, size_t bytes) {
    return memalign(alignment, bytes);
}
int posix_memalign(void **out, size_t alignment, size_t bytes) {
    void *p = memalign(alignment, bytes);
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}

/* --- threads and clocks ------------------------------------------------------------------------------ */

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *arg) {
    typedef int (*type)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return fails(THREAD) ? EAGAIN : ((type)next("pthread_create"))(thread, attributes, main, arg);
}

static time_t jump(void) {
    if (kind != CLOCK) return 0;
    return atomic_fetch_add(&calls, 1) % 2 ? 7200 : -3600;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int result = (int)syscall(SYS_clock_gettime, clock, out);
    if (clock == CLOCK_REALTIME) out->tv_sec += jump();
    return result;
}

time_t time(time_t *out) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec t;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &t);
    *out = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
    return 0;
}
