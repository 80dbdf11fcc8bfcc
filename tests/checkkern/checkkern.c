/* Checks every row of ESPL__KERNEL_LIST: the reference against an independent computation, every other
 * instruction set of this machine against the reference, bit for bit. A row without a check does not link.
 *
 *   checkkern [kernel]          checks all or one
 *   checkkern --bench [kernel]  measures instead
 *   checkkern --golden          prints a checksum of each kernel's results by the reference, the same on every processor
 *   checkkern --golden FILE     compares them with those of the file (tests/golden/kernels.txt)
 *   checkkern --peak            measures what registers reach: a level, 1e9 u8 and f32 operations a second */
#include "checkkern.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

espl__rng rng;

enum { PART = 8 };
static int share = 1;
int cases(int all) {
    return share > 1 ? all / share : CASES(all); /* checksums are of the same cases in every build */
}

static long checks, failed;
static const char *current;

int between(int lo, int hi) {
    return lo + (int)espl__rng_below(&rng, (uint32_t)(hi - lo + 1));
}
bool one_in(int n) {
    return espl__rng_below(&rng, (uint32_t)n) == 0;
}

/* --- buffers ------------------------------------------------------------------------------------- */

enum { SLOT_BYTES = 1 << 23 };

static uint8_t *slot_end(int slot) {
    static uint8_t *ends[SLOTS];
    if (ends[slot]) return ends[slot];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = fileno(tmpfile());
    if (fd < 0 || ftruncate(fd, (off_t)(SLOT_BYTES + page)) != 0) exit(2);
    uint8_t *base = mmap(NULL, SLOT_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (base == MAP_FAILED || mprotect(base + SLOT_BYTES, page, PROT_NONE) != 0) exit(2);
    return ends[slot] = base + SLOT_BYTES;
}

void *take(int slot, size_t bytes) {
    if (bytes + MARGIN > SLOT_BYTES) {
        fprintf(stderr, "checkkern: a case needs %zu bytes, more than a buffer has\n", bytes);
        exit(2);
    }
    uint8_t *start = slot_end(slot) - bytes, *p = start - MARGIN;
    uint64_t x = ((uint64_t)espl__rng_u32(&rng) << 32) | espl__rng_u32(&rng) | 1;
    for (; p < start + bytes; p++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        *p = (uint8_t)(x >> 32);
    }
    return start;
}

/* --- checksums -------------------------------------------------------------------------------------- */

static uint64_t checksum;
static outputs last;

static uint64_t fnv1a(uint64_t h, uint32_t word) {
    for (int i = 0; i < 4; i++, word >>= 8) h = (h ^ (word & 255)) * 1099511628211u;
    return h;
}

/* Takes in what the last case left. Sign and payload of a NaN differ between processors, so all count as one; what looks
 * like a NaN may be four codes, of which the others of the case tell enough. */
static void add_to_checksum(void) {
    for (size_t i = 0; i < last.bytes; i += 4) {
        uint32_t word = 0;
        memcpy(&word, (const uint8_t *)last.want + i, ESPL_MIN(last.bytes - i, sizeof word));
        checksum = fnv1a(checksum, (word & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC00000 : word);
    }
    last.bytes = 0;
}

outputs take_outputs(size_t bytes) {
    add_to_checksum();
    outputs o = {.blank = take(SLOT_BLANK, bytes), .want = slot_end(SLOT_WANT) - bytes, .bytes = bytes};
    memcpy((uint8_t *)o.want - MARGIN, (uint8_t *)o.blank - MARGIN, bytes + MARGIN);
    last = o;
    return o;
}

void *take_again(const outputs *o) {
    uint8_t *got = slot_end(SLOT_GOT) - o->bytes;
    memcpy(got - MARGIN, (uint8_t *)o->blank - MARGIN, o->bytes + MARGIN);
    return got;
}

float hostile_float(void) {
    static const float bad[] = {0.0f,    -0.0f,      INFINITY, -INFINITY,    NAN,   1e-45f,
                                -1e-40f, 3e38f,      -3e38f,   1.5f,         -2.5f, 0.5f,
                                1e30f,   8388609.0f, -1e9f,    2147483648.0f};
    return bad[between(0, (int)ESPL_COUNT(bad) - 1)];
}

void fill_f32(float *x, int64_t n, float scale, bool hostile) {
    for (int64_t i = 0; i < n; i++)
        x[i] = hostile && one_in(12) ? hostile_float() : (espl__rng_float(&rng) * 2.0f - 1.0f) * scale;
}

/* --- comparison ----------------------------------------------------------------------------------- */

void expect(bool ok, const char *kernel, int level, const char *what, ...) {
    checks++;
    if (ok) return;
    if (failed++ >= 20) return;
    va_list args;
    va_start(args, what);
    printf("FAILED %s %s: ", kernel, espl__cpu_level_name((espl__cpu)level));
    vprintf(what, args);
    printf("\n");
    va_end(args);
}

bool same_bytes(const outputs *o, const void *got) {
    return memcmp((const uint8_t *)o->want - MARGIN, (const uint8_t *)got - MARGIN, o->bytes + MARGIN) == 0;
}

bool same_floats(const outputs *o, const void *got) {
    if (same_bytes(o, got)) return true;
    const float *x = o->want, *y = got;
    if (memcmp((const uint8_t *)x - MARGIN, (const uint8_t *)y - MARGIN, MARGIN) != 0) return false;
    for (size_t i = 0; i < o->bytes / sizeof *x; i++)
        if (memcmp(x + i, y + i, sizeof *x) != 0 && !(isnan(x[i]) && isnan(y[i]))) return false;
    return true;
}

/* --- the list -------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*check)(void);
} rows[] = {
#define X(name, args) {#name, check_##name},
    ESPL__KERNEL_LIST(X)
#undef X
};

/* A kernel that leaves its buffers ends here. */
static void on_fault(int number) {
    static const char text[] = "FAILED by a memory fault in ";
    (void)!write(STDOUT_FILENO, text, sizeof text - 1);
    (void)!write(STDOUT_FILENO, current, strlen(current));
    (void)!write(STDOUT_FILENO, "\n", 1);
    _exit(number == SIGSEGV ? 1 : 2);
}

/* Every entry of the complete sets is there, and a level's own entry wins. */
static void check_sets(void) {
    ESPL__CPU_LEVELS(level, 0) {
        const espl__kernels *own = espl__kernels_own((espl__cpu)level),
                            *at = espl__kernels_at((espl__cpu)level);
        const espl__kernels *below = level ? espl__kernels_at(espl__cpu_below((espl__cpu)level)) : NULL;
#define X(name, args)                                        \
    expect(at->name != NULL, #name, level, "has no kernel"); \
    expect(at->name == (own->name ? own->name                \
                        : below   ? below->name              \
                                  : NULL),                     \
           #name, level, "inherits the wrong kernel");
        ESPL__KERNEL_LIST(X)
#undef X
    }
    expect(espl__kernels_get() == espl__kernels_at(espl__cpu_level()), "sets", 0,
           "the chosen set is another");
}

static void print_peaks(void) {
    ESPL__CPU_LEVELS(level, 1)
        printf("%s %.1f %.1f\n", espl__cpu_level_name((espl__cpu)level), peak_u8((espl__cpu)level),
               peak_f32((espl__cpu)level));
}

/* The checksum of one row as `file` has it; 0 if it has none. */
static uint64_t golden_of(FILE *file, const char *kernel) {
    char name[64];
    unsigned long long sum;
    rewind(file);
    while (fscanf(file, "%63s %llx", name, &sum) == 2)
        if (strcmp(name, kernel) == 0) return sum;
    return 0;
}

/* The reference alone, since random numbers are drawn for each level that is compared. */
static int golden(const char *path) {
    FILE *file = path ? fopen(path, "r") : NULL;
    if (path && !file) {
        perror(path);
        return 2;
    }
    espl__cpu_use(ESPL__CPU_REF);
    share = PART;
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        current = rows[i].name;
        rng = espl__rng_seed(20240607, i);
        checksum = 14695981039346656037u;
        rows[i].check();
        add_to_checksum();
        if (file)
            expect(checksum == golden_of(file, current), current, 0, "%016llx is not the checksum in %s",
                   (unsigned long long)checksum, path);
        else
            printf("%s %016llx\n", current, (unsigned long long)checksum);
    }
    if (file) {
        printf("%ld checks, %ld failed\n", checks, failed);
        (void)fclose(file);
    }
    return failed != 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--peak") == 0) {
        print_peaks();
        return 0;
    }
    bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
    const char *only = argc > 1 + bench ? argv[1 + bench] : NULL;
    if (bench) {
        bench_all(only);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--golden") == 0) return golden(argc > 2 ? argv[2] : NULL);
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    check_sets();
    rng = espl__rng_seed(20240607, 1000);
    current = "packing";
    check_packing();
    check_csr_packing();
    check_wonly_packing();
    current = "conv_u8";
    check_conv_rows();
    current = "dwconv_u8";
    check_dwconv_packed();
    bool found = !only;
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        if (only && strcmp(only, rows[i].name) != 0) continue;
        found = true;
        current = rows[i].name;
        rng = espl__rng_seed(20240607, i);
        rows[i].check();
    }
    if (!found) {
        fprintf(stderr, "checkkern: there is no kernel %s\n", only);
        return 2;
    }
    printf("%ld checks, %ld failed\n", checks, failed);
    return failed != 0;
}
