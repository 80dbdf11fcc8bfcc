/* Bundles: the list of members of a folder or an archive, and reading. */
#define _GNU_SOURCE
#include "data/bundle.h"

#include "base/output.h"
#include "data/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_MEMBERS = 1 << 25, MAX_DEPTH = 8 };

static espl_status add_member(espl__bundle *b, const char *name, uint64_t size, uint64_t offset,
                              int64_t ordinal, espl_diag *diag) {
    while (name[0] == '.' && name[1] == '/') name += 2;
    if (b->count == MAX_MEMBERS)
        return espl__fail(diag, ESPL_LIMIT, "%s: holds more than %d files", b->path, MAX_MEMBERS);
    if (b->count == b->capacity) {
        uint64_t capacity = (uint64_t)ESPL_MAX(b->capacity * 2, 1024);
        espl__member *members = espl__realloc(b->ctx, b->members, (uint64_t)b->count * sizeof *members,
                                              capacity * sizeof *members);
        if (!members) return espl__nomem(diag, capacity * sizeof *members);
        b->members = members;
        b->capacity = (int64_t)capacity;
    }
    char *copy = espl__arena_strdup(&b->arena, name);
    if (!copy) return espl__nomem(diag, strlen(name));
    b->members[b->count++] = (espl__member){.name = copy, .size = size, .offset = offset, .ordinal = ordinal};
    return ESPL_OK;
}

/* --- folders ---------------------------------------------------------------------------------------- */

static espl_status list_folder(espl__bundle *b, const char *inside, int depth, espl_diag *diag);

static espl_status list_entry(espl__bundle *b, const char *inside, const char *entry, int depth,
                              espl_diag *diag) {
    espl_status status = ESPL_OK;
    struct stat st;
    char *name = *inside ? espl__path_join(b->ctx, inside, entry) : NULL;
    const char *relative = *inside ? name : entry;
    char *full = relative ? espl__path_join(b->ctx, b->path, relative) : NULL;
    if (!full)
        status = espl__nomem(diag, strlen(b->path) + strlen(inside) + strlen(entry));
    else if (stat(full, &st) != 0)
        status = ESPL_OK; /* a dangling link */
    else if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
        status = list_folder(b, relative, depth + 1, diag);
    else if (S_ISREG(st.st_mode))
        status = add_member(b, relative, (uint64_t)st.st_size, 0, b->count, diag);
    espl__free(b->ctx, full);
    espl__free(b->ctx, name);
    return status;
}

static espl_status list_folder(espl__bundle *b, const char *inside, int depth, espl_diag *diag) {
    espl_status status = ESPL_OK;
    char *full = espl__path_join(b->ctx, b->path, inside);
    if (!full) return espl__nomem(diag, strlen(b->path));
    DIR *dir = opendir(full);
    if (!dir) {
        status = espl__io_fail(diag, full, "cannot be listed");
    } else {
        const struct dirent *entry;
        while (status == ESPL_OK && (errno = 0, entry = readdir(dir)) != NULL)
            if (entry->d_name[0] != '.') status = list_entry(b, inside, entry->d_name, depth, diag);
        if (status == ESPL_OK && errno) status = espl__io_fail(diag, full, "cannot be listed");
        closedir(dir);
    }
    espl__free(b->ctx, full);
    return status;
}

/* --- archives ------------------------------------------------------------------------------------------ */

/* A plain tar's members lie in its file as they are: it stays open. */
static espl_status list_tar(espl__bundle *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__tar tar;
    ESPL_TRY(espl__tar_open(b->ctx, b->path, &tar, diag));
    for (;;) {
        ESPL_TRY(espl__tar_next(&tar, diag));
        if (!tar.name) break;
        ESPL_TRY(add_member(b, tar.name, tar.size, tar.at, tar.ordinal, diag));
    }
    b->form = tar.gz ? ESPL__BUNDLE_COMPRESSED : ESPL__BUNDLE_TAR;
    b->fd = tar.fd;
    tar.fd = -1;
done:
    espl__tar_close(&tar);
    return status;
}

static espl_status keep_member(espl__bundle *b, espl__tar *tar, espl__member *m, espl_diag *diag) {
    if (tar->size != m->size) return espl__fail(diag, ESPL_IO, "%s: has changed while it was read", b->path);
    m->bytes = espl__alloc(b->ctx, ESPL_MAX(m->size, 1));
    return m->bytes ? espl__tar_read(tar, m->bytes, m->size, diag) : espl__nomem(diag, m->size);
}

/* Member of each place in the archive, -1 for those not wanted; the sum of the wanted sizes is checked. */
static espl_status map_ordinals(const espl__bundle *b, int64_t **map, int64_t *places, espl_diag *diag) {
    uint64_t bytes = 0;
    *places = 0;
    for (int64_t i = 0; i < b->count; i++)
        if (b->members[i].wanted) {
            *places = ESPL_MAX(*places, b->members[i].ordinal + 1);
            bytes += b->members[i].size;
        }
    if (bytes > ESPL__DATA_MAX_BYTES)
        return espl__fail(diag, ESPL_LIMIT,
                          "%s: %" PRIu64 " bytes of images would be kept in memory, more than %" PRIu64
                          "; uncompress it to a .tar, or give split or count",
                          b->path, bytes, ESPL__DATA_MAX_BYTES);
    *map = espl__alloc(b->ctx, (uint64_t)*places * sizeof **map);
    if (!*map) return espl__nomem(diag, (uint64_t)*places * sizeof **map);
    for (int64_t i = 0; i < *places; i++) (*map)[i] = -1;
    for (int64_t i = 0; i < b->count; i++)
        if (b->members[i].wanted && !b->members[i].bytes) (*map)[b->members[i].ordinal] = i;
    return ESPL_OK;
}

/* A second pass over a packed archive, which takes the bytes of the wanted members. */
static espl_status keep_members(espl__bundle *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__tar tar = {.fd = -1};
    int64_t *map = NULL, places;
    ESPL_TRY(map_ordinals(b, &map, &places, diag));
    if (places == 0) goto done;
    ESPL_TRY(espl__tar_open(b->ctx, b->path, &tar, diag));
    while (tar.ordinal + 1 < places) {
        ESPL_TRY(espl__tar_next(&tar, diag));
        if (!tar.name) break;
        if (tar.ordinal < places && map[tar.ordinal] >= 0)
            ESPL_TRY(keep_member(b, &tar, &b->members[map[tar.ordinal]], diag));
    }
done:
    espl__tar_close(&tar);
    espl__free(b->ctx, map);
    return status;
}

/* --- the list ------------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b) {
    const espl__member *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

/* Sorted; of members of one name the last in the archive counts, as tar itself has it. */
static void sort_members(espl__bundle *b) {
    if (b->count == 0) return;
    qsort(b->members, (size_t)b->count, sizeof *b->members, by_name);
    int64_t kept = 0;
    for (int64_t i = 0; i < b->count; i++) {
        if (i + 1 < b->count && strcmp(b->members[i].name, b->members[i + 1].name) == 0) continue;
        b->members[kept++] = b->members[i];
    }
    b->count = kept;
}

espl__member *espl__bundle_find(espl__bundle *b, const char *name) {
    int64_t lo = 0, hi = b->count;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        int order = strcmp(b->members[mid].name, name);
        if (order == 0) return &b->members[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

espl_status espl__bundle_open(espl_context *ctx, const char *path, espl__bundle *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    struct stat st;
    *b = (espl__bundle){.ctx = ctx, .fd = -1};
    espl__arena_init(&b->arena, ctx);
    b->path = espl__arena_strdup(&b->arena, path);
    if (!b->path) {
        status = espl__nomem(diag, strlen(path));
    } else if (stat(path, &st) != 0) {
        status = espl__io_fail(diag, path, "cannot be opened");
    } else if (S_ISDIR(st.st_mode)) {
        status = list_folder(b, "", 0, diag);
    } else if (S_ISREG(st.st_mode)) {
        status = list_tar(b, diag);
    } else {
        status = espl__fail(diag, ESPL_IO, "%s: is neither a file nor a folder", path);
    }
    if (status == ESPL_OK) sort_members(b);
    return status;
}

void espl__bundle_close(espl__bundle *b) {
    if (!b->ctx) return;
    for (int64_t i = 0; i < b->count; i++) espl__free(b->ctx, b->members[i].bytes);
    espl__free(b->ctx, b->members);
    espl__free(b->ctx, b->scratch);
    if (b->fd >= 0) close(b->fd);
    espl__arena_free(&b->arena);
    *b = (espl__bundle){.fd = -1};
}

/* --- reading ----------------------------------------------------------------------------------------- */

espl_status espl__bundle_keep(espl__bundle *b, espl_diag *diag) {
    for (int64_t i = 0; i < b->count; i++)
        if (b->members[i].wanted && b->members[i].size > ESPL__MEMBER_MAX)
            return espl__fail(diag, ESPL_LIMIT,
                              "%s: '%s' has %" PRIu64 " bytes; at most %" PRIu64 " are read", b->path,
                              b->members[i].name, b->members[i].size, ESPL__MEMBER_MAX);
    return b->form == ESPL__BUNDLE_COMPRESSED ? keep_members(b, diag) : ESPL_OK;
}

static espl_status read_tar(espl__bundle *b, const espl__member *m, espl_diag *diag) {
    if (m->size > b->scratch_size) {
        uint8_t *scratch = espl__alloc(b->ctx, m->size);
        if (!scratch) return espl__nomem(diag, m->size);
        espl__free(b->ctx, b->scratch);
        b->scratch = scratch;
        b->scratch_size = m->size;
    }
    for (uint64_t done = 0; done < m->size;) {
        ssize_t n = pread(b->fd, b->scratch + done, (size_t)(m->size - done), (off_t)(m->offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return espl__fail(diag, ESPL_IO, "%s: '%s' cannot be read: %s", b->path, m->name,
                              n < 0 ? strerror(errno) : "the archive ends too early");
        done += (uint64_t)n;
    }
    return ESPL_OK;
}

static espl_status read_folder(espl__bundle *b, const espl__member *m, espl_diag *diag) {
    uint64_t length;
    char *full = espl__path_join(b->ctx, b->path, m->name);
    if (!full) return espl__nomem(diag, strlen(m->name));
    espl__free(b->ctx, b->scratch);
    b->scratch = NULL;
    espl_status status = espl__file_read(b->ctx, full, ESPL__MEMBER_MAX, &b->scratch, &length, diag);
    if (status == ESPL_OK && length < m->size)
        status = espl__fail(diag, ESPL_IO, "%s: has become shorter since it was listed", full);
    espl__free(b->ctx, full);
    return status;
}

espl_status espl__bundle_read(espl__bundle *b, const espl__member *m, const uint8_t **bytes,
                              espl_diag *diag) {
    espl_status status = ESPL_OK;
    *bytes = m->bytes;
    if (b->form == ESPL__BUNDLE_COMPRESSED)
        return m->bytes ? ESPL_OK
                        : espl__fail(diag, ESPL_INTERNAL, "%s: '%s' was not kept", b->path, m->name);
    status = b->form == ESPL__BUNDLE_TAR ? read_tar(b, m, diag) : read_folder(b, m, diag);
    *bytes = b->scratch;
    return status;
}
