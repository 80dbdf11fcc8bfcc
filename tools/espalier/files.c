#define _GNU_SOURCE
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *join(const char *folder, const char *name) {
    size_t length = strlen(folder), size = length + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s%s%s", folder, length && folder[length - 1] == '/' ? "" : "/", name);
    return path;
}

const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

espl_status write_text(cli *c, const char *path, const char *text) {
    return espl_file_write(c->ctx, path, text, strlen(text), &c->diag);
}

/* The length of a folder's name without the slashes at its end. */
static size_t trimmed_length(const char *folder) {
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    return n;
}

static const char *without_dot(const char *path) {
    return path[0] == '.' && path[1] == '/' && path[2] ? path + 2 : path;
}

static bool same_folder(const char *a, const char *b) {
    a = without_dot(a);
    b = without_dot(b);
    size_t n = trimmed_length(a);
    return n == trimmed_length(b) && memcmp(a, b, n) == 0;
}

bool ends_with(const char *path, const char *ending) {
    const size_t n = strlen(path), m = strlen(ending);
    return n > m && strcmp(path + n - m, ending) == 0;
}

espl_status check_ending(cli *c, const char *what, const char *path, const char *ending) {
    if (ends_with(path, ending)) return ESPL_OK;
    return usage_fail(c, "%s: '%s' does not end in %s", what, path, ending);
}

espl_status check_place(cli *c, const char *path, const char *later) {
    const char *slash = strrchr(path, '/');
    if (is_folder(path)) return fail(c, ESPL_IO, "%s: is a folder where a file is to be written", path);
    char *parent = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *itself = parent ? join(parent, ".") : NULL; /* which a file that is no folder does not have */
    espl_status status = itself ? ESPL_OK : nomem(c);
    if (status == ESPL_OK && !same_folder(parent, later) && access(itself, W_OK | X_OK) != 0)
        status = fail(c, ESPL_IO, "%s: cannot be written: %s%s", path, strerror(errno),
                      errno == EROFS || errno == EACCES ? "; give a place that can be written" : "");
    free(itself);
    free(parent);
    return status;
}

static ssize_t keep_text(void *cookie, const char *text, size_t length) {
    text_stream *s = cookie;
    if (length > s->room - s->length) {
        size_t room = 2 * s->room + length + 4096;
        char *grown = realloc(s->text, room);
        if (!grown) {
            s->failed = true;
            return 0;
        }
        s->text = grown;
        s->room = room;
    }
    memcpy(s->text + s->length, text, length);
    s->length += length;
    return (ssize_t)length;
}

void stream_open(text_stream *s) {
    *s = (text_stream){0};
    s->file = fopencookie(s, "w", (cookie_io_functions_t){.write = keep_text});
}

espl_status stream_write(cli *c, text_stream *s, const char *path) {
    bool good = s->file && !ferror(s->file);
    if (s->file && fclose(s->file) != 0) good = false;
    good = good && !s->failed;
    espl_status status = good ? ESPL_OK : nomem(c);
    if (good && path) status = espl_file_write(c->ctx, path, s->text, s->length, &c->diag);
    free(s->text);
    *s = (text_stream){0};
    return status;
}

espl_status output_begin(cli *c, const char *path, output_folder *out) {
    *out = (output_folder){.ctx = c->ctx, .path = path};
    return espl_folder_begin(c->ctx, path, &out->temporary, &c->diag);
}

char *output_path(const output_folder *folder, const char *name) {
    return join(folder->temporary, name);
}

espl_status output_commit(cli *c, output_folder *folder) {
    return espl_folder_commit(c->ctx, folder->path, folder->temporary, &c->diag);
}

void output_end(output_folder *folder) {
    espl_folder_end(folder->ctx, &folder->temporary);
}

/* Numbers at the ends of names count: set 2 comes before set 10. */
static int compare_names(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    size_t n = strlen(x), m = strlen(y);
    return n != m ? (n < m ? -1 : 1) : strcmp(x, y);
}

void free_names(char **names, int count) {
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
}

espl_status list_folder(cli *c, const char *folder, const char *prefix, const char *ending, char ***out, int *count) {
    espl_status status = ESPL_OK;
    char **names = NULL;
    int n = 0;
    DIR *dir = opendir(folder);
    *out = NULL;
    *count = 0;
    if (!dir)
        return errno == ENOMEM ? nomem(c)
                               : fail(c, ESPL_IO, "%s: cannot be opened as a folder: %s", folder, strerror(errno));
    for (struct dirent *entry; status == ESPL_OK && (errno = 0, entry = readdir(dir)) != NULL;) {
        size_t length = strlen(entry->d_name), end = strlen(ending);
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)) != 0) continue;
        if (length < end || strcmp(entry->d_name + length - end, ending) != 0) continue;
        char **grown = realloc(names, sizeof *grown * (size_t)(n + 1));
        if (grown) names = grown;
        if (grown && (names[n] = strdup(entry->d_name)) != NULL)
            n++;
        else
            status = nomem(c);
    }
    if (status == ESPL_OK && errno) status = fail(c, ESPL_IO, "%s: cannot be read: %s", folder, strerror(errno));
    closedir(dir);
    if (n) qsort(names, (size_t)n, sizeof *names, compare_names);
    *out = names;
    *count = n;
    return status;
}
