/* tar archives by libarchive: listing, and keeping members of compressed ones. */
#include "base/output.h"
#include "data/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

/* Beyond this an archive must not be MAX_RATIO times as large as its file, or it is taken for a trap: deflate
 * makes 1,032 bytes of one at most, pictures hardly shrink at all. */
#define MAX_UNPACKED ((int64_t)256 << 20)
enum { BLOCK = 1 << 16, MAX_RATIO = 100 };

/* libarchive tells what the system said by its number, and what is wrong with the bytes by numbers of its
 * own. */
static espl_status archive_fail(const espl__bundle *b, struct archive *a, espl_diag *diag) {
    const char *text = archive_error_string(a);
    int number = archive_errno(a);
    if (number == ENOMEM) return espl__nomem(diag, BLOCK);
    if (number == EIO || number == EMFILE || number == ENFILE || number == EACCES) {
        errno = number;
        return espl__io_fail(diag, b->path, "cannot be read");
    }
    return espl__fail(diag, ESPL_FORMAT, "%s: is neither a folder nor a sound .tar or .tar.gz: %s", b->path,
                      text ? text : "it is damaged");
}

static espl_status open_archive(const espl__bundle *b, struct archive **out, espl_diag *diag) {
    struct archive *a = *out = archive_read_new();
    if (!a) return espl__nomem(diag, 4096);
    if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        archive_read_open_filename(a, b->path, BLOCK) != ARCHIVE_OK)
        return archive_fail(b, a, diag);
    return ESPL_OK;
}

static espl_status check_ratio(const espl__bundle *b, struct archive *a, espl_diag *diag) {
    int64_t unpacked = archive_filter_bytes(a, 0), packed = archive_filter_bytes(a, -1);
    if (unpacked <= MAX_UNPACKED || unpacked / MAX_RATIO <= packed) return ESPL_OK;
    return espl__fail(
        diag, ESPL_LIMIT,
        "%s: unpacks to more than %d times its size, which no pictures do; uncompress it to a .tar if it is "
        "what you want",
        b->path, MAX_RATIO);
}

/* Goes to the end of an entry's bytes, block by block: libarchive itself would unpack terabytes without a
 * word. */
static espl_status skip_bytes(const espl__bundle *b, struct archive *a, espl_diag *diag) {
    const void *block;
    size_t size;
    la_int64_t offset;
    espl_status status = ESPL_OK;
    if (archive_filter_code(a, 0) == ARCHIVE_FILTER_NONE) return ESPL_OK;
    while (status == ESPL_OK && archive_read_data_block(a, &block, &size, &offset) == ARCHIVE_OK)
        status = check_ratio(b, a, diag);
    return status;
}

/* Steps to the next regular file; *entry NULL at the end. */
static espl_status next_file(const espl__bundle *b, struct archive *a, struct archive_entry **entry,
                             int64_t *ordinal, espl_diag *diag) {
    for (;;) {
        espl_status status = *ordinal >= 0 ? skip_bytes(b, a, diag) : ESPL_OK;
        if (status != ESPL_OK) return status;
        int code = archive_read_next_header(a, entry);
        if (code == ARCHIVE_EOF) {
            *entry = NULL;
            return ESPL_OK;
        }
        if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return archive_fail(b, a, diag);
        ++*ordinal;
        if (archive_entry_filetype(*entry) == AE_IFREG && archive_entry_hardlink(*entry) == NULL &&
            archive_entry_sparse_count(*entry) == 0 && archive_entry_pathname(*entry) &&
            archive_entry_size(*entry) >= 0)
            return ESPL_OK;
    }
}

/* A plain tar's members lie in the file as they are: where the reader stands after a header is where the
 * bytes begin. */
espl_status espl__tar_list(espl__bundle *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    struct archive *a = NULL;
    struct archive_entry *entry;
    int64_t ordinal = -1;
    ESPL_TRY(open_archive(b, &a, diag));
    b->form = ESPL__BUNDLE_COMPRESSED;
    for (;;) {
        ESPL_TRY(next_file(b, a, &entry, &ordinal, diag));
        if (!entry) break;
        if (archive_filter_count(a) == 1 && archive_filter_code(a, 0) == ARCHIVE_FILTER_NONE)
            b->form = ESPL__BUNDLE_TAR;
        ESPL_TRY(espl__bundle_add(b, archive_entry_pathname(entry), (uint64_t)archive_entry_size(entry),
                                  (uint64_t)archive_filter_bytes(a, 0), ordinal, diag));
    }
    if (b->form == ESPL__BUNDLE_TAR) {
        b->fd = open(b->path, O_RDONLY | O_CLOEXEC);
        if (b->fd < 0) status = espl__io_fail(diag, b->path, "cannot be opened");
    }
done:
    if (a) archive_read_free(a);
    return status;
}

static espl_status keep_member(espl__bundle *b, struct archive *a, espl__member *m, espl_diag *diag) {
    m->bytes = espl__alloc(b->ctx, ESPL_MAX(m->size, 1));
    if (!m->bytes) return espl__nomem(diag, m->size);
    for (uint64_t done = 0; done < m->size;) {
        la_ssize_t n = archive_read_data(a, m->bytes + done, (size_t)(m->size - done));
        if (n <= 0) return archive_fail(b, a, diag);
        done += (uint64_t)n;
    }
    return ESPL_OK;
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

espl_status espl__tar_keep(espl__bundle *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    struct archive *a = NULL;
    struct archive_entry *entry;
    int64_t ordinal = -1, *map = NULL, places;
    ESPL_TRY(map_ordinals(b, &map, &places, diag));
    if (places == 0) goto done;
    ESPL_TRY(open_archive(b, &a, diag));
    while (ordinal + 1 < places) {
        ESPL_TRY(next_file(b, a, &entry, &ordinal, diag));
        if (!entry) break;
        if (ordinal >= places || map[ordinal] < 0) continue;
        espl__member *m = &b->members[map[ordinal]];
        if ((uint64_t)archive_entry_size(entry) != m->size) {
            status = espl__fail(diag, ESPL_IO, "%s: has changed while it was read", b->path);
            goto done;
        }
        ESPL_TRY(keep_member(b, a, m, diag));
    }
done:
    if (a) archive_read_free(a);
    espl__free(b->ctx, map);
    return status;
}
