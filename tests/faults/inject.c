/* A library to preload: lets the n-th call of some kind fail, or counts such calls. What fails is told by
 * INJECT:
 *
 *     KIND:N:WHAT[:on]     the N-th call (1 is the first; 0: none) fails as WHAT says; with `on` all later
 * ones
 *
 * write: open for writing, write, pwrite, fsync, ftruncate, rename, link, mkdir and the like, close of what
 * was written; WHAT is an errno by name, or `short`: a write takes half of the bytes.
 *
 * read: open for reading, read, pread, mmap of a file, fopen, fread, opendir, readdir.
 *
 * alloc: malloc, calloc, realloc, aligned_alloc, posix_memalign; malloc: the first three of these.
 *
 * thread: pthread_create.
 *
 * clock: the time of day jumps an hour back and two hours forth in turn; N and WHAT mean nothing.
 *
 * Always: the clock that measures runs HURRY times as fast, so that who measures for a tenth of a second is done soon.
 *
 * INJECT_COUNT names a file that gets the number of calls when the process ends, INJECT_PATHS one that gets,
 * line by line, the number of each call that came on a path through the program on which none came before. In
 * a program that was built with an address sanitizer, memory is the sanitizer's, so that what is lost on the
 * way out is told (ASAN_OPTIONS=verify_asan_link_order=0). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
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

enum kind { NONE, WRITE, READ, ALLOC, MALLOC, THREAD, CLOCK };
enum { MAX_FD = 1024, MOST_PATHS = 1 << 16, DEPTH = 24, HURRY = 50 };

static enum kind kind;
static int error;
static bool half, from_then_on, ready;
static long at;
static atomic_long calls;
static atomic_bool written[MAX_FD]; /* file descriptors that were opened for writing */
static __thread bool inside;        /* dlsym may allocate */
static int paths = -1;              /* the file of INJECT_PATHS */
static uint64_t seen[MOST_PATHS];   /* hashes of paths: open addressing */
static int seen_count;
static pthread_mutex_t seen_mutex = PTHREAD_MUTEX_INITIALIZER;

static const struct {
    const char *name;
    int number;
} errors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EDQUOT", EDQUOT}, {"EINTR", EINTR},
              {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN}, {"EROFS", EROFS},   {"EINVAL", EINVAL}};
static const char *const kinds[] = {"", "write", "read", "alloc", "malloc", "thread", "clock"};

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
    if ((text = getenv("INJECT_PATHS")) != NULL) {
        void *frame[2];
        paths = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        backtrace(frame, 2); /* which loads a library the first time */
    }
    ready = true;
}

/* The decimals of n and a line's end. */
static int decimals(long n, char *text) {
    char digits[24];
    int count = 0, length = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
    } while ((n /= 10) > 0);
    while (count > 0) text[length++] = digits[--count];
    text[length++] = '\n';
    return length;
}

/* Writes n if no call came on this path before. */
static void note_path(long n) {
    void *frame[DEPTH];
    char text[32];
    uint64_t h = 0xcbf29ce484222325u;
    inside = true;
    int depth = backtrace(frame, DEPTH);
    inside = false;
    for (int i = 2; i < depth; i++)
        h = (h ^ (uint64_t)(uintptr_t)frame[i]) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
    h |= 1;
    pthread_mutex_lock(&seen_mutex);
    size_t slot = (size_t)(h % MOST_PATHS);
    while (seen[slot] && seen[slot] != h) slot = (slot + 1) % MOST_PATHS;
    if (!seen[slot] && seen_count < MOST_PATHS / 2) {
        seen[slot] = h;
        seen_count++;
        (void)!syscall(SYS_write, paths, text, (size_t)decimals(n, text));
    }
    pthread_mutex_unlock(&seen_mutex);
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("INJECT_COUNT");
    char text[32];
    if (!path || kind == NONE) return;
    int length = decimals(atomic_load(&calls), text);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) return;
    (void)!syscall(SYS_write, fd, text, (size_t)length);
    syscall(SYS_close, fd);
}

/* Counts a call of this kind; true if it is the one to fail. */
static bool hit(enum kind k) {
    if (!ready || k != kind || inside) return false;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (paths >= 0) note_path(n);
    return at > 0 && (n == at || (from_then_on && n > at));
}

static bool fails(enum kind k) {
    if (!hit(k) || half) return false;
    errno = error;
    return true;
}

static bool unaligned_fails(void) {
    return fails(kind == MALLOC ? MALLOC : ALLOC);
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
int mkdirat(int folder, const char *path, mode_t mode) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_mkdirat, folder, path, mode);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_linkat, a, from, b, to, flags);
}
int renameat(int a, const char *from, int b, const char *to) {
    return fails(WRITE) ? -1 : (int)syscall(SYS_renameat2, a, from, b, to, 0);
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

DIR *opendir(const char *path) {
    typedef DIR *(*type)(const char *);
    return fails(READ) ? NULL : ((type)next("opendir"))(path);
}

struct dirent *readdir(DIR *dir) {
    typedef struct dirent *(*type)(DIR *);
    return fails(READ) ? NULL : ((type)next("readdir"))(dir);
}

/* --- memory ------------------------------------------------------------------------------------------ */

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
/* A sanitizer's, if the program has one. */
extern void *__interceptor_malloc(size_t) __attribute__((weak));
extern void *__interceptor_calloc(size_t, size_t) __attribute__((weak));
extern void *__interceptor_realloc(void *, size_t) __attribute__((weak));
extern void *__interceptor_memalign(size_t, size_t) __attribute__((weak));
#define UNDER(name) (__interceptor_##name ? __interceptor_##name : __libc_##name)

void *malloc(size_t bytes) {
    return unaligned_fails() ? NULL : UNDER(malloc)(bytes);
}
void *calloc(size_t count, size_t size) {
    return unaligned_fails() ? NULL : UNDER(calloc)(count, size);
}
void *realloc(void *old, size_t bytes) {
    return unaligned_fails() ? NULL : UNDER(realloc)(old, bytes);
}
void *memalign(size_t alignment, size_t bytes) {
    return fails(ALLOC) ? NULL : UNDER(memalign)(alignment, bytes);
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

static void hurry(struct timespec *t) {
    int64_t ns = HURRY * ((int64_t)t->tv_sec * 1000000000 + t->tv_nsec);
    *t = (struct timespec){ns / 1000000000, ns % 1000000000};
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int result = (int)syscall(SYS_clock_gettime, clock, out);
    if (clock == CLOCK_REALTIME) out->tv_sec += jump();
    if (clock == CLOCK_MONOTONIC) hurry(out);
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
