/* Limits that hold: small files that ask for much. Each command is run with --max-memory on every trap of its
 * kind (tests/fuzz/make_corpus.py), and must end soon, with success or in one sentence and exit code 1 or 2,
 * and with no more memory than it was allowed.
 *
 *   limits ESPALIER TRAPS
 *
 * A trap is one test. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a program needs before it reads anything, and libraries beside the context; sanitizers have shadows of
 * all memory. */
#ifdef ESPL_SANITIZED
enum { ALLOWED = 192, SPARE = 700, SECONDS = 60 };
#elif ESPL_SLOWNESS > 1 /* an emulator has its translations too */
enum { ALLOWED = 192, SPARE = 192, SECONDS = 10 * ESPL_SLOWNESS };
#else
enum { ALLOWED = 192, SPARE = 64, SECONDS = 10 };
#endif
enum { HANGS = 12 * SECONDS, MOST_WORDS = 12 };

/* What is done with the traps of a folder. %s is the trap, %d a description of data that names it. */
typedef struct use {
    const char *folder, *description; /* of data; NULL: the file itself is given */
    const char *words[8];
} use;

static const use uses[] = {
    {"onnx", NULL, {"inspect", "%s"}},
    {"onnx", NULL, {"bench", "%s", "--runs", "1", "--seconds", "0.01"}},
    {"yaml", NULL, {"data", "%s.yaml"}},
    {"yaml", NULL, {"chip", "check", "%s.yaml"}},
    {"image", "kind: images\npath: .\nlabels: labels.txt\n", {"data", "%d"}},
    {"idx", "kind: idx\npath: trap\n", {"data", "%d"}},
    {"tar", "kind: images\npath: trap\n", {"data", "%d"}},
    {"plot", NULL, {"plot", "%s", "-o", "plot.svg"}},
};

static char folder[] = "/tmp/espl_limits_XXXXXX";
static int passed, failed;

static void put(const char *name, const void *data, size_t size) {
    FILE *f = fopen(name, "wb");
    if (f && fwrite(data, 1, size, f) == size && fclose(f) == 0) return;
    printf("FAILED: %s/%s cannot be written\n", folder, name);
    exit(1);
}

/* Copies a trap into the working folder. */
static void copy(const char *from, const char *to) {
    static char bytes[1 << 20];
    FILE *f = fopen(from, "rb");
    size_t size = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f) fclose(f);
    put(to, bytes, size);
}

static void child(const char *program, char **words) {
    struct rlimit limit = {HANGS, HANGS};
    (void)setrlimit(RLIMIT_CPU, &limit);
    if (freopen("out", "w", stdout) && freopen("err", "w", stderr)) execv(program, words);
    _exit(99);
}

/* The lines on standard error. */
static int count_lines(char *first, int size) {
    char line[4096];
    int lines = 0;
    FILE *f = fopen("err", "r");
    first[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "warning: ", 9) == 0) continue;
        if (lines++ == 0) snprintf(first, (size_t)size, "%.*s", (int)strcspn(line, "\n"), line);
    }
    if (f) fclose(f);
    return lines;
}

static void judge(const char *trap, const char *command, int status, const struct rusage *used) {
    char first[1200];
    double seconds = (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) +
                     1e-6 * (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
    long megabytes = used->ru_maxrss / 1024;
    int lines = count_lines(first, sizeof first), code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    const char *wrong = code < 0 || code > 2          ? "does not end as it should"
                        : code && lines != 1          ? "does not say one sentence"
                        : megabytes > ALLOWED + SPARE ? "takes more memory than is allowed"
                        : seconds > SECONDS           ? "takes too long"
                                                      : NULL;
    if (wrong) printf("FAILED ");
    printf("%s, %s: %s%scode %d, %.2f s, %ld MB: %s\n", trap, command, wrong ? wrong : "", wrong ? ": " : "",
           code, seconds, megabytes, first);
    fflush(stdout);
    if (wrong)
        failed++;
    else
        passed++;
}

static void run(const char *program, const use *u, const char *trap) {
    static char memory[20];
    char file[600], yaml[640];
    char *words[MOST_WORDS] = {(char *)program};
    int n = 1;
    struct rusage used;
    int status;
    snprintf(memory, sizeof memory, "%dM", ALLOWED);
    snprintf(file, sizeof file, "%s/trap", folder);
    snprintf(yaml, sizeof yaml, "%s/%s", folder, u->description ? "set.yaml" : "trap.yaml");
    for (int i = 0; u->words[i]; i++)
        words[n++] = (char *)(strcmp(u->words[i], "%s") == 0 ? file
                              : u->words[i][0] == '%'        ? yaml
                                                             : u->words[i]);
    words[n++] = (char *)"--max-memory";
    words[n++] = memory;
    words[n++] = (char *)"--threads";
    words[n++] = (char *)"1";
    pid_t pid = fork();
    if (pid == 0) child(program, words);
    if (pid < 0 || wait4(pid, &status, 0, &used) != pid) exit(1);
    judge(trap, words[1], status, &used);
}

static void try_folder(const char *program, const char *traps, const use *u) {
    char path[1024], from[2048];
    snprintf(path, sizeof path, "%s/%s", traps, u->folder);
    DIR *dir = opendir(path);
    int before = passed + failed;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        snprintf(from, sizeof from, "%s/%s", path, e->d_name);
        bool jpeg = strstr(e->d_name, ".jpg") != NULL;
        copy(from, "trap");
        copy(from, "trap.yaml");
        if (strcmp(u->folder, "image") == 0) {
            copy(from, jpeg ? "trap.jpg" : "trap.png");
            put("labels.txt", jpeg ? "trap.jpg 0\n" : "trap.png 0\n", 11);
        }
        if (u->description) put("set.yaml", u->description, strlen(u->description));
        run(program, u, e->d_name);
    }
    if (dir) closedir(dir);
    if (passed + failed == before) {
        printf("FAILED: there is no trap in %s\n", path);
        failed++;
    }
}

int main(int argc, char **argv) {
    static const char *const left[] = {"trap",     "trap.yaml", "trap.jpg", "trap.png", "labels.txt",
                                       "set.yaml", "out",       "err",      "plot.svg"};
    if (argc != 3 || !mkdtemp(folder) || chdir(folder) != 0) {
        fprintf(stderr, "limits ESPALIER TRAPS (absolute paths)\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) try_folder(argv[1], argv[2], &uses[i]);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) (void)unlink(left[i]);
    (void)rmdir(folder);
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
