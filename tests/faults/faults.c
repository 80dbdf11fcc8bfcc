/* Runs commands with the n-th call of the system failing, for every n or a sample of them:
 *
 *   faults PROGRAM INJECT.so CASES MODE...
 *
 * ESPL_LONG=1: every n, if there are not tens of thousands (oneDNN); ESPL_PATHS=1: one n of each path through
 * the program that comes to such a call; else some of these. ESPL_ONLY=name: that case.
 *
 * A mode is what inject.c takes without the number, such as write:ENOSPC or write:ENOSPC:on. A file of cases,
 * at least one for every command of the program:
 *
 *   [name]
 *   before COMMAND      run by bash in an empty folder first, nothing failing; `espalier` is the program
 *   run ARGUMENT...     of the program: what is examined
 *   recover ARGUMENT... what goes on after a failure (default: the same as run)
 *   env NAME=VALUE...   what the program finds in its environment, $HERE being the folder it runs in
 *   malloc              in the modes of alloc only malloc, calloc and realloc fail
 *   foreign TEXT        a library's last words where it ends the program, which we cannot help
 *   volatile PATTERN... files whose bytes no two runs share, ending with a line or a brace; "stdout": prints
 *   loose PATTERN...    what a run may leave or change as it likes, such as checkpoints for `recover`
 *
 * After each run: the program ended by itself; if it says success, all files are there and it printed what it
 * should; if not, one sentence says why, and every file is the old or the new one, whole, and no other is
 * there. Then `recover`, nothing failing, gives what a run that never failed gives. Modes that a program can
 * survive (short writes, EINTR, threads, clocks) must change nothing. A program built with an address
 * sanitizer also tells what it lost on the way out: that is exit code 86. */
#include <errno.h>
#include <fnmatch.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tree.h"

enum { MOST_WORDS = 64, SAMPLES = 4, SECONDS = 120, MOST_CALLS = 10000 };

typedef struct words {
    char *word[MOST_WORDS + 1];
    int count;
} words;

typedef struct test {
    char name[64], *before;
    words run, recover, environment, volatiles, loose;
    char foreign[64];
    bool only_malloc;
} test;

/* Below a folder of our own, where this program is. */
static const char work[] = "work", pristine[] = "pristine", out_path[] = "out", err_path[] = "err",
                  count_path[] = "count", paths_path[] = "paths";
static char *program, *library, *folder;
static int passed, failed;

/* The program's commands, and which of them the cases run. */
#define X(name, text) #name,
static const char *const commands[] = {
#include "../../tools/espalier/commands.list"
};
#undef X
enum { COMMANDS = sizeof commands / sizeof *commands };
static bool has_case[COMMANDS];

/* --- cases ------------------------------------------------------------------------------------------- */

/* The word with $ROOT or $HERE replaced. */
static char *expand(const char *word) {
    const char *root = strstr(word, "$ROOT"), *here = strstr(word, "$HERE"), *at = root ? root : here;
    char *text = NULL;
    if (!at) return strdup(word);
    return asprintf(&text, "%.*s%s%s%s", (int)(at - word), word, root ? ESPL_SOURCE_DIR : folder,
                    root ? "" : "/work", at + 5) < 0
               ? NULL
               : text;
}

static void split(words *w, char *line) {
    for (char *p = strtok(line, " "); p && w->count < MOST_WORDS; p = strtok(NULL, " "))
        w->word[w->count++] = expand(p);
}

static void words_free(words *w) {
    for (int i = 0; i < w->count; i++) free(w->word[i]);
    *w = (words){0};
}

static void test_free(test *t) {
    free(t->before);
    words_free(&t->run);
    words_free(&t->recover);
    words_free(&t->environment);
    words_free(&t->volatiles);
    words_free(&t->loose);
    *t = (test){0};
}

static bool any_match(const words *patterns, const char *path) {
    for (int i = 0; i < patterns->count; i++)
        if (fnmatch(patterns->word[i], path, 0) == 0) return true;
    return false;
}

/* --- running ----------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* In the child: where it runs and what it sees. */
static void become(const test *t, const words *w, const char *inject) {
    char *argv[MOST_WORDS + 2] = {(char *)program};
    memcpy(argv + 1, w->word, sizeof *argv * (size_t)w->count);
    int in = open("/dev/null", O_RDONLY), out = open(out_path, O_WRONLY | O_CREAT | O_TRUNC, 0666),
        err = open(err_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    setenv("XDG_CACHE_HOME", "/dev/null", 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:allocator_may_return_null=1:exitcode=86", 1);
    if (chdir(work) != 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    for (int i = 0; i < t->environment.count; i++) putenv(t->environment.word[i]);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    setenv("LD_PRELOAD", library, 1); /* also where nothing fails: its clock runs fast */
    if (inject) {
        setenv("INJECT", inject, 1);
        setenv("INJECT_COUNT", "../count", 1);
        if (strstr(inject, ":0:")) { /* backtrace() loads a library, and some bytes of that look lost */
            setenv("INJECT_PATHS", "../paths", 1);
            setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);
        }
    }
    execv(program, argv);
    _exit(127);
}

/* The exit code; -signal if one ended it, -1000 if it took too long. */
static int run(const test *t, const words *w, const char *inject) {
    pid_t pid = fork();
    if (pid == 0) become(t, w, inject);
    int status;
    double end = now() + SECONDS;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct timespec nap = {0, 500000};
        nanosleep(&nap, NULL);
        if (now() < end) continue;
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return -1000;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static long counted(void) {
    char *text = file_text(count_path);
    long n = text ? atol(text) : 0;
    free(text);
    return n;
}

static bool prepare(const test *t) {
    FILE *f = fopen("before.sh", "w");
    if (!f) return false;
    fprintf(f, "rm -rf pristine && mkdir pristine && cd pristine || exit 1\n");
    fprintf(f, "export ROOT='%s' XDG_CACHE_HOME=/dev/null\nespalier() { '%s' \"$@\"; }\n%s\n",
            ESPL_SOURCE_DIR, program, t->before ? t->before : "true");
    fclose(f);
    return system("bash before.sh >out 2>err") == 0;
}

/* --- judging ----------------------------------------------------------------------------------------- */

typedef struct judge {
    const test *t;
    const char *mode;   /* with the number */
    bool survives;      /* the program must not notice */
    const char *reason; /* what the sentence says, NULL: anything */
    int code;           /* of the run in which nothing fails */
    char *said;         /* what that run printed */
    tree before, after;
} judge;

static void complain(const judge *j, int rc, const char *what, const char *path) {
    char *err = file_text(err_path);
    failed++;
    printf("FAILED %s with %s: %s%s%s (exit code %d)\n    %s\n", j->t->name, j->mode, what, path ? ": " : "",
           path ? path : "", rc, err ? err : "");
    fflush(stdout);
    free(err);
}

static bool ends_well(const char *path) {
    char *full, *text = asprintf(&full, "%s/%s", work, path) < 0 ? NULL : file_text(full);
    size_t n = text ? strlen(text) : 0;
    bool good = n > 0 && (text[n - 1] == '\n' || text[n - 1] == '}');
    free(full);
    free(text);
    return good;
}

/* The file is as this tree has it. */
static bool matches(const judge *j, const tree *t, const tree_entry *e) {
    const tree_entry *other = tree_find(t, e->path);
    return other && (other->hash == e->hash || (any_match(&j->t->volatiles, e->path) && ends_well(e->path)));
}

static bool is_loose(const judge *j, const tree_entry *e) {
    return any_match(&j->t->loose, e->path) && !strstr(e->path, ".part");
}

/* NULL if all files are what a run without failures leaves. */
static const char *differs(const judge *j, const tree *is) {
    for (int i = 0; i < j->after.count; i++) {
        const char *path = j->after.entry[i].path;
        if (!tree_find(is, path) && !any_match(&j->t->loose, path)) return path;
    }
    for (int i = 0; i < is->count; i++)
        if (!is_loose(j, &is->entry[i]) && !matches(j, &j->after, &is->entry[i])) return is->entry[i].path;
    return NULL;
}

/* NULL if every file is the old or the new one. */
static const char *partial(const judge *j, const tree *is) {
    for (int i = 0; i < j->before.count; i++)
        if (!tree_find(is, j->before.entry[i].path)) return j->before.entry[i].path;
    for (int i = 0; i < is->count; i++) {
        const tree_entry *e = &is->entry[i];
        if (!is_loose(j, e) && !matches(j, &j->before, e) && !matches(j, &j->after, e)) return e->path;
    }
    return NULL;
}

/* The program printed what it prints when nothing fails. */
static bool said_all(const judge *j) {
    char *text = file_text(out_path);
    bool same = any_match(&j->t->volatiles, "stdout") || (text && strcmp(text, j->said) == 0);
    free(text);
    return same;
}

static const char out_of_memory[] = "out of memory";

/* One sentence that says why. */
static bool explained(const judge *j) {
    char *err = file_text(err_path);
    bool no_memory = j->reason && strcmp(j->reason, out_of_memory) == 0;
    bool good = err && strncmp(err, "espalier: ", 10) == 0 && strlen(err) > 20 &&
                strchr(err, '\n') == err + strlen(err) - 1 &&
                (!j->reason || strstr(err, j->reason) || (no_memory && strstr(err, strerror(ENOMEM))));
    free(err);
    return good;
}

/* Ended by a library, or by the sanitizer, which has no memory for a thread of its own. */
static bool is_foreign(const judge *j) {
    char *err = file_text(err_path);
    bool found = err && ((j->t->foreign[0] && strstr(err, j->t->foreign)) ||
                         strstr(err, "AddressSanitizer: CHECK failed: sanitizer_linux"));
    free(err);
    return found;
}

static void check(judge *j, int rc) {
    tree is = tree_read(work);
    const char *path;
    int before = failed;
    if ((rc == 1 || rc == 86) && is_foreign(j)) {
        /* Who is ended so cannot take its temporary folder away. */
        if ((path = partial(j, &is)) != NULL && !strstr(path, ".part"))
            complain(j, rc, "neither as before nor as wanted", path);
    } else if (rc < 0) {
        complain(j, rc, rc == -1000 ? "does not end" : "ended by a signal", NULL);
    } else if (rc == j->code) {
        if ((path = differs(j, &is)) != NULL) complain(j, rc, "says all is well, but this is not", path);
        if (!said_all(j)) complain(j, rc, "says all is well, and printed something else", NULL);
    } else if (j->survives) {
        complain(j, rc, "should have been survived", NULL);
    } else {
        if (rc != 2 && rc != 3) complain(j, rc, "exit code", NULL);
        if (!explained(j)) complain(j, rc, "not explained in a sentence", NULL);
        if ((path = partial(j, &is)) != NULL) complain(j, rc, "neither as before nor as wanted", path);
        tree_free(&is);
        rc = run(j->t, j->t->recover.count ? &j->t->recover : &j->t->run, NULL);
        is = tree_read(work);
        if (rc != j->code)
            complain(j, rc, "cannot be done again", NULL);
        else if ((path = differs(j, &is)) != NULL)
            complain(j, rc, "done again differs", path);
    }
    tree_free(&is);
    passed += failed == before;
}

static const char *reason_of(const char *mode) {
    static const struct {
        const char *name;
        int number;
    } table[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}};
    if (strstr(mode, "ENOMEM")) return out_of_memory;
    for (size_t i = 0; strncmp(mode, "write", 5) == 0 && i < sizeof table / sizeof *table; i++)
        if (strstr(mode, table[i].name)) return strerror(table[i].number);
    return NULL;
}

/* The calls that are to fail, of `total`. */
static long *choose(long total, long *count) {
    char *text = file_text(paths_path);
    bool every = getenv("ESPL_LONG") && total <= MOST_CALLS,
         sampled = !getenv("ESPL_LONG") && !getenv("ESPL_PATHS");
    long *point = malloc(sizeof *point * (size_t)(total + 1)), n = 0;
    if (!point) exit(1);
    for (long i = 1; every && i <= total; i++) point[n++] = i;
    for (char *p = text; !every && p && *p && n < total; p += strcspn(p, "\n") + 1) point[n++] = atol(p);
    long step = sampled && n > SAMPLES ? n / SAMPLES : 1, from = step > 1 ? rand() % step : 0, kept = 0;
    for (long i = from; i < n; i += step) point[kept++] = point[i];
    *count = kept;
    free(text);
    return point;
}

/* One mode of one case: "write:ENOSPC:on" becomes "write:N:ENOSPC:on". */
static void examine(judge *j, const char *mode) {
    char inject[128];
    const char *colon = strchr(mode, ':');
    int kind = colon ? (int)(colon - mode) : (int)strlen(mode);
    const char *more = j->t->only_malloc && strncmp(mode, "alloc:", 6) == 0 ? "m" : "";
    j->reason = reason_of(mode);
    j->survives = strstr(mode, "short") || strstr(mode, "EINTR") || !strncmp(mode, "thread", 6) ||
                  !strncmp(mode, "clock", 5);
    j->mode = inject;
    tree_copy(pristine, work);
    snprintf(inject, sizeof inject, "%s%.*s:0:%s", more, kind, mode, colon ? colon + 1 : "");
    unlink(count_path);
    unlink(paths_path);
    int rc = run(j->t, &j->t->run, inject);
    long total = counted(), runs = 0, at, points, *point = choose(total, &points);
    check(j, rc);
    for (at = 0; at < points; at++, runs++) {
        long n = point[at];
        tree is = tree_read(work);
        if (!tree_same(&is, &j->before)) tree_copy(pristine, work);
        tree_free(&is);
        snprintf(inject, sizeof inject, "%s%.*s:%ld:%s", more, kind, mode, n, colon ? colon + 1 : "");
        check(j, run(j->t, &j->t->run, inject));
    }
    printf("%-24s %-20s %6ld calls, %6ld of them failed\n", j->t->name, mode, total, runs);
    fflush(stdout);
    free(point);
}

static void run_test(test *t, char **modes) {
    const char *only = getenv("ESPL_ONLY");
    for (int i = 0; t->run.count && i < COMMANDS; i++)
        has_case[i] |= strcmp(commands[i], t->run.word[0]) == 0;
    if (!t->run.count || (only && strcmp(only, t->name) != 0)) return;
    judge j = {.t = t, .mode = "nothing"};
    if (!prepare(t)) {
        complain(&j, 0, "cannot be prepared", NULL);
        return;
    }
    tree_copy(pristine, work);
    j.before = tree_read(work);
    j.code = run(t, &t->run, NULL);
    j.after = tree_read(work);
    j.said = file_text(out_path);
    if (j.code != 0 && j.code != 1)
        complain(&j, j.code, "does not work", NULL);
    else
        for (; *modes; modes++) examine(&j, *modes);
    tree_free(&j.before);
    tree_free(&j.after);
    free(j.said);
}

static void read_cases(const char *path, char **modes) {
    char line[4096];
    test t = {0};
    FILE *f = fopen(path, "r");
    if (!f) {
        perror(path);
        exit(1);
    }
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '[') {
            run_test(&t, modes);
            test_free(&t);
            snprintf(t.name, sizeof t.name, "%.*s", (int)strcspn(line + 1, "]"), line + 1);
        } else if (!strncmp(line, "before ", 7)) {
            t.before = strdup(line + 7);
        } else if (!strncmp(line, "run ", 4)) {
            split(&t.run, line + 4);
        } else if (!strncmp(line, "recover ", 8)) {
            split(&t.recover, line + 8);
        } else if (!strncmp(line, "env ", 4)) {
            split(&t.environment, line + 4);
        } else if (!strncmp(line, "volatile ", 9)) {
            split(&t.volatiles, line + 9);
        } else if (!strncmp(line, "loose ", 6)) {
            split(&t.loose, line + 6);
        } else if (!strncmp(line, "foreign ", 8)) {
            snprintf(t.foreign, sizeof t.foreign, "%.63s", line + 8);
        } else if (!strcmp(line, "malloc")) {
            t.only_malloc = true;
        } else if (line[0] && line[0] != '#') {
            printf("FAILED: not understood: %s\n", line);
            failed++;
        }
    }
    run_test(&t, modes);
    test_free(&t);
    fclose(f);
    for (int i = 0; i < COMMANDS; i++) {
        if (!has_case[i]) printf("FAILED: %s has no case\n", commands[i]);
        failed += !has_case[i];
    }
}

int main(int count, char **argv) {
    if (count < 5) {
        fprintf(stderr, "faults PROGRAM INJECT.so CASES MODE...\n");
        return 2;
    }
    const char *temporary = getenv("TMPDIR");
    program = realpath(argv[1], NULL);
    library = realpath(argv[2], NULL);
    char *cases = realpath(argv[3], NULL);
    if (asprintf(&folder, "%s/faults.XXXXXX", temporary ? temporary : "/tmp") < 0 || !program || !library ||
        !cases || !mkdtemp(folder) || chdir(folder) != 0) {
        fprintf(stderr, "%s, %s, %s: something is missing\n", argv[1], argv[2], argv[3]);
        return 1;
    }
    srand(7);
    read_cases(cases, argv + 4);
    if (chdir("/") == 0) tree_remove(folder);
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
