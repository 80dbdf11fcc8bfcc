#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
