/* Whole files, uncompressed on the way if they are gzip; zlib tells by the first bytes. */
#include "base/output.h"
#include "data/data.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <zlib.h>

enum { CHUNK = 1 << 18 };

espl_status espl__gz_fail(espl_diag *diag, const char *path, struct gzFile_s *file) {
    int code;
    const char *text = gzerror(file, &code);
    size_t length = strlen(path);
    if (code == Z_MEM_ERROR) return espl__nomem(diag, CHUNK);
    if (code == Z_ERRNO) return espl__io_fail(diag, path, "cannot be uncompressed");
    if (code == Z_BUF_ERROR) text = "it ends too early";
    if (strncmp(text, path, length) == 0 && strncmp(text + length, ": ", 2) == 0) text += length + 2;
    return espl__fail(diag, ESPL_FORMAT, "%s: cannot be uncompressed: %s", path,
                      *text ? text : "it is damaged");
}

espl_status espl__gz_open(const char *path, struct gzFile_s **file, espl_diag *diag) {
    errno = 0;
    *file = gzopen(path, "rbe");
    if (*file) return ESPL_OK;
    return errno ? espl__io_fail(diag, path, "cannot be opened") : espl__nomem(diag, CHUNK);
}

espl_status espl__gz_read(espl_context *ctx, const char *path, uint8_t **data, uint64_t *length,
                          espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__buffer b;
    gzFile file;
    struct stat st;
    char *chunk = NULL;
    int n, code;
    espl__buffer_init(&b, ctx);
    *data = NULL;
    *length = 0;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return espl__fail(diag, ESPL_IO, "%s: is not a file", path);
    status = espl__gz_open(path, &file, diag);
    if (status != ESPL_OK) return status;
    chunk = espl__alloc(ctx, CHUNK);
    if (!chunk) {
        status = espl__nomem(diag, CHUNK);
        goto done;
    }
    while ((n = gzread(file, chunk, CHUNK)) > 0) {
        if (b.length + (size_t)n > ESPL__DATA_MAX_BYTES) {
            status = espl__fail(diag, ESPL_LIMIT, "%s: has more than %" PRIu64 " bytes when uncompressed",
                                path, ESPL__DATA_MAX_BYTES);
            goto done;
        }
        espl__buffer_append(&b, chunk, (size_t)n);
        if (b.failed) {
            status = espl__nomem(diag, b.length + (size_t)n);
            goto done;
        }
    }
    (void)gzerror(file, &code);
    if (n < 0 || code != Z_OK) {
        status = espl__gz_fail(diag, path, file);
        goto done;
    }
    if (!b.data) espl__buffer_append(&b, "", 0); /* an empty file still gives a pointer */
    if (b.failed) {
        status = espl__nomem(diag, 1);
        goto done;
    }
    *data = (uint8_t *)b.data;
    *length = b.length;
    b.data = NULL;
done:
    espl__buffer_free(&b);
    espl__free(ctx, chunk);
    gzclose(file);
    return status;
}
