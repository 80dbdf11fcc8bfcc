#include "tree.h"

#include <dirent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

char *file_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    size_t room = 1 << 16, n = 0, got;
    char *text = malloc(room + 1);
    while ((got = fread(text + n, 1, room - n, f)) > 0)
        if ((n += got) == room) text = realloc(text, (room *= 2) + 1);
    fclose(f);
    text[n] = 0;
    return text;
}

/* FNV-1a. */
static uint64_t hash_file(const char *path) {
    unsigned char block[1 << 16];
    uint64_t h = 0xcbf29ce484222325u;
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;)
        for (size_t i = 0; i < n; i++) h = (h ^ block[i]) * 0x100000001b3u;
    fclose(f);
    return h;
}

static char *joined(const char *a, const char *b) {
    char *path;
    if (asprintf(&path, "%s%s%s", a, a[0] ? "/" : "", b) < 0) exit(1);
    return path;
}

static void read_into(tree *t, const char *root, const char *below) {
    char *own = joined(root, below);
    DIR *dir = opendir(own);
    free(own);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *path = joined(below, e->d_name), *full = joined(root, path);
        bool there = lstat(full, &st) == 0, inner = there && S_ISDIR(st.st_mode);
        if (there) {
            t->entry = realloc(t->entry, sizeof *t->entry * (size_t)(t->count + 1));
            t->entry[t->count++] = (tree_entry){path, inner ? 0 : hash_file(full), inner};
            if (inner) read_into(t, root, path);
        } else {
            free(path);
        }
        free(full);
    }
    if (dir) closedir(dir);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const tree_entry *)a)->path, ((const tree_entry *)b)->path);
}

tree tree_read(const char *folder) {
    tree t = {0};
    read_into(&t, folder, "");
    if (t.count) qsort(t.entry, (size_t)t.count, sizeof *t.entry, by_path);
    return t;
}

void tree_free(tree *t) {
    for (int i = 0; i < t->count; i++) free(t->entry[i].path);
    free(t->entry);
    *t = (tree){0};
}

const tree_entry *tree_find(const tree *t, const char *path) {
    tree_entry key = {.path = (char *)path};
    return t->count ? bsearch(&key, t->entry, (size_t)t->count, sizeof key, by_path) : NULL;
}

bool tree_same(const tree *a, const tree *b) {
    if (a->count != b->count) return false;
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->entry[i].path, b->entry[i].path) != 0 || a->entry[i].hash != b->entry[i].hash)
            return false;
    return true;
}

static bool shell(const char *script, const char *a, const char *b) {
    char *const words[] = {(char *)"sh", (char *)"-c", (char *)script, (char *)a, (char *)b, NULL};
    pid_t pid;
    int status;
    return posix_spawnp(&pid, "sh", NULL, NULL, words, environ) == 0 && waitpid(pid, &status, 0) == pid &&
           status == 0;
}

void tree_copy(const char *from, const char *folder) {
    if (shell("rm -rf -- \"$1\" && cp -a -- \"$0\" \"$1\"", from, folder)) return;
    fprintf(stderr, "%s cannot be copied to %s\n", from, folder);
    exit(1);
}

void tree_remove(const char *folder) {
    (void)shell("rm -rf -- \"$0\"", folder, NULL);
}
