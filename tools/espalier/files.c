#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

/* "path.1234.part" without the path's last slashes. */
static char *temporary_name(const char *path) {
    size_t length = strlen(path), size = length + 32;
    while (length > 1 && path[length - 1] == '/') length--;
    char *name = malloc(size);
    if (name) snprintf(name, size, "%.*s.%ld.part", (int)length, path, (long)getpid());
    return name;
}

espl_status write_text(cli *c, const char *path, const char *text) {
    return write_bytes(c, path, text, strlen(text));
}

espl_status write_bytes(cli *c, const char *path, const void *bytes, size_t length) {
    espl_status status = ESPL_OK;
    char *temporary = temporary_name(path);
    if (!temporary) return nomem(c);
    FILE *file = fopen(temporary, "wb");
    if (!file) {
        status = fail(c, ESPL_IO, "%s: cannot be written: %s", path, strerror(errno));
        goto done;
    }
    bool good = fwrite(bytes, 1, length, file) == length && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int saved = errno;
    if (fclose(file) != 0) good = false;
    if (good && rename(temporary, path) == 0) goto done;
    status = fail(c, ESPL_IO, "%s: cannot be written: %s", path, strerror(good ? errno : saved));
    unlink(temporary);
done:
    free(temporary);
    return status;
}

/* --- folders -----------------------------------------------------------------------------------------------
 */

/* Removes a folder of plain files. */
static void remove_folder(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *file = join(path, entry->d_name);
        if (file) unlink(file);
        free(file);
    }
    closedir(dir);
    rmdir(path);
}

espl_status output_begin(cli *c, const char *path, output_folder *out) {
    struct stat st;
    *out = (output_folder){.path = path};
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode)) return ESPL_OK;
        return fail(c, ESPL_IO, "%s: is a file where a folder is to be written", path);
    }
    out->temporary = temporary_name(path);
    if (!out->temporary) return nomem(c);
    remove_folder(out->temporary); /* left by a killed process of the same number */
    if (mkdir(out->temporary, 0777) == 0) return ESPL_OK;
    espl_status status = fail(c, ESPL_IO, "%s: cannot be created: %s", path, strerror(errno));
    free(out->temporary);
    out->temporary = NULL;
    return status;
}

char *output_path(const output_folder *folder, const char *name) {
    return join(folder->temporary ? folder->temporary : folder->path, name);
}

espl_status output_commit(cli *c, output_folder *folder) {
    if (folder->temporary && rename(folder->temporary, folder->path) != 0)
        return fail(c, ESPL_IO, "%s: cannot be written: %s", folder->path, strerror(errno));
    free(folder->temporary);
    folder->temporary = NULL;
    return ESPL_OK;
}

void output_end(output_folder *folder) {
    if (folder->temporary) remove_folder(folder->temporary);
    free(folder->temporary);
    folder->temporary = NULL;
}
