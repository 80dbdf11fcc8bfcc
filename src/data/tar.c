#include "data/tar.h"

#include "base/output.h"
#include "data/data.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* Beyond this an archive must not be MAX_RATIO times as large as its file, or it is taken for a trap: deflate
 * makes 1,032 bytes of one at most, pictures hardly shrink at all. */
#define MAX_UNPACKED ((uint64_t)256 << 20)
#define MAX_SIZE ((uint64_t)1 << 62) /* of a member: sums of two do not overflow */
enum { BLOCK = 512, CHUNK = 1 << 13, MAX_RATIO = 100, MAX_TEXT = 1 << 20 };

#define ROUND(bytes) (((bytes) + BLOCK - 1) / BLOCK * BLOCK)

/* Fields of a header: where they begin and how long they are. */
enum {
    NAME = 0,
    NAME_LENGTH = 100,
    SIZE = 124,
    NUMBER_LENGTH = 12, /* of SIZE */
    CHECKSUM = 148,
    CHECKSUM_LENGTH = 8,
    TYPE = 156,
    MAGIC = 257,
    PREFIX = 345, /* ustar's */
    PREFIX_LENGTH = 155,
    SPARSE_MORE = 482,      /* GNU's: 1 if a block of the list of parts follows */
    SPARSE_MORE_AGAIN = 504 /* the same in that block */
};

static espl_status damaged(const espl__tar *t, const char *what, espl_diag *diag) {
    return espl__fail(diag, ESPL_FORMAT,
                      "%s: is neither a folder nor a sound .tar or .tar.gz: byte %" PRIu64 ": %s", t->path,
                      t->header, what);
}

static const char cut[] = "the member ends too early";

/* --- bytes --------------------------------------------------------------------------------------------- */

static espl_status check_ratio(const espl__tar *t, espl_diag *diag) {
    if (t->at <= MAX_UNPACKED || t->at / MAX_RATIO <= (uint64_t)ESPL_MAX(gzoffset(t->gz), 0)) return ESPL_OK;
    return espl__fail(
        diag, ESPL_LIMIT,
        "%s: unpacks to more than %d times its size, which no pictures do; uncompress it to a .tar if it is "
        "what you want",
        t->path, MAX_RATIO);
}

/* Reads `count` bytes, or what is left of them; zlib tells a file that is cut when nothing is left. */
static espl_status read_some(espl__tar *t, void *bytes, uint64_t count, uint64_t *got, espl_diag *diag) {
    for (*got = 0; *got < count;) {
        uint8_t *to = (uint8_t *)bytes + *got;
        size_t most = (size_t)ESPL_MIN(count - *got, (uint64_t)1 << 24);
        int code = Z_OK;
        ssize_t n = t->gz ? gzread(t->gz, to, (unsigned)most) : pread(t->fd, to, most, (off_t)t->at);
        if (n < 0 && !t->gz && errno == EINTR) continue;
        if (n < 0 && !t->gz) return espl__io_fail(diag, t->path, "cannot be read");
        if (n <= 0 && t->gz) (void)gzerror(t->gz, &code);
        if (code != Z_OK) return espl__gz_fail(diag, t->path, t->gz);
        if (n <= 0) break;
        *got += (uint64_t)n;
        t->at += (uint64_t)n;
    }
    return t->gz ? check_ratio(t, diag) : ESPL_OK;
}

/* Reads on to a place, or the end. */
static espl_status read_to(espl__tar *t, uint64_t place, espl_diag *diag) {
    uint8_t chunk[CHUNK];
    for (uint64_t got = 1; got && t->at < place;) {
        espl_status status = read_some(t, chunk, ESPL_MIN(place - t->at, (uint64_t)CHUNK), &got, diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

espl_status espl__tar_read(espl__tar *t, void *bytes, uint64_t count, espl_diag *diag) {
    uint64_t got;
    espl_status status = read_some(t, bytes, count, &got, diag);
    return status == ESPL_OK && got < count ? damaged(t, cut, diag) : status;
}

/* --- headers ------------------------------------------------------------------------------------------- */

/* Octal digits between blanks; GNU has sizes of 8 GiB and more as big-endian numbers after a byte 0x80. */
static bool read_number(const uint8_t *field, int length, uint64_t *value) {
    int i = 0;
    *value = 0;
    if (field[0] & 0x80) {
        for (i = 1; i < length && *value <= MAX_SIZE >> 8; i++) *value = *value << 8 | field[i];
        return field[0] == 0x80 && i == length;
    }
    while (i < length && field[i] == ' ') i++;
    for (; i < length && field[i] >= '0' && field[i] <= '7'; i++) *value = *value * 8 + (field[i] - '0');
    return i == length || field[i] == ' ' || field[i] == 0;
}

/* The sum of the bytes with the sum's own taken for blanks; old programs took bytes for signed. */
static bool has_checksum(const uint8_t *h) {
    uint64_t wanted;
    int64_t plain = 0, with_signs = 0;
    for (int i = 0; i < BLOCK; i++) {
        uint8_t byte = i >= CHECKSUM && i < CHECKSUM + CHECKSUM_LENGTH ? ' ' : h[i];
        plain += byte;
        with_signs += (int8_t)byte;
    }
    return read_number(h + CHECKSUM, CHECKSUM_LENGTH, &wanted) &&
           ((int64_t)wanted == plain || (int64_t)wanted == with_signs);
}

static bool is_zero(const uint8_t *h) {
    for (int i = 0; i < BLOCK; i++)
        if (h[i]) return false;
    return true;
}

static void clear(espl__tar_notes *n) {
    n->name.length = n->size = 0;
    n->has_size = n->is_sparse = false;
}

static espl_status set_text(espl__buffer *b, const char *text, size_t length, espl_diag *diag) {
    b->length = 0;
    espl__buffer_append(b, text, strnlen(text, length));
    return b->failed ? espl__nomem(diag, length) : ESPL_OK;
}

/* One record of pax: what matters here of it. A value without characters takes the key back. */
static espl_status note(espl__tar *t, espl__tar_notes *n, const char *key, size_t key_length,
                        const char *value, size_t length, espl_diag *diag) {
    if (key_length == 4 && memcmp(key, "path", 4) == 0) return set_text(&n->name, value, length, diag);
    if (key_length > 11 && memcmp(key, "GNU.sparse.", 11) == 0) n->is_sparse = true;
    if (key_length != 4 || memcmp(key, "size", 4) != 0) return ESPL_OK;
    n->has_size = length > 0;
    n->size = 0;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9' || n->size > MAX_SIZE / 16)
            return damaged(t, "its size is no number", diag);
        n->size = n->size * 10 + (uint64_t)(value[i] - '0');
    }
    return ESPL_OK;
}

/* Records of pax: "LENGTH KEY=VALUE\n", where LENGTH counts the whole record. */
static espl_status read_records(espl__tar *t, espl__tar_notes *n, espl_diag *diag) {
    const char *p = t->text.data, *end = p + t->text.length;
    while (p < end) {
        size_t length = 0, left = (size_t)(end - p), i = 0;
        for (; i < left && p[i] >= '0' && p[i] <= '9' && length <= left; i++)
            length = length * 10 + (size_t)(p[i] - '0');
        if (i == left || p[i] != ' ' || length > left || length < i + 3 || p[length - 1] != '\n')
            return damaged(t, "a record of pax has no sound length", diag);
        const char *key = p + ++i, *equals = memchr(key, '=', length - i - 1);
        if (!equals) return damaged(t, "a record of pax has no '='", diag);
        p += length;
        espl_status status =
            note(t, n, key, (size_t)(equals - key), equals + 1, (size_t)(p - equals - 2), diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

static bool is_note(uint8_t type) {
    return type && strchr("xXgLK", type);
}

/* A header that says something of other members: x of the next, g of all (pax), L its name, K what it links
 * to (GNU). */
static espl_status read_note(espl__tar *t, uint8_t type, espl_diag *diag) {
    char chunk[CHUNK];
    if (t->size > MAX_TEXT) return damaged(t, "its names are longer than 1 MiB", diag);
    uint64_t end = t->at + t->size;
    t->next = t->at + ROUND(t->size);
    t->text.length = 0;
    espl__buffer_append(&t->text, "", 0);
    while (t->at < end) {
        uint64_t n = ESPL_MIN(end - t->at, (uint64_t)CHUNK);
        espl_status status = espl__tar_read(t, chunk, n, diag);
        if (status != ESPL_OK) return status;
        espl__buffer_append(&t->text, chunk, n);
    }
    if (t->text.failed) return espl__nomem(diag, t->size);
    if (type == 'K') return ESPL_OK;
    if (type == 'L') return set_text(&t->one.name, t->text.data, t->text.length, diag);
    t->is_pax = true;
    return read_records(t, type == 'g' ? &t->all : &t->one, diag);
}

static bool is_posix(const uint8_t *h) {
    return memcmp(h + MAGIC, "ustar", 6) == 0; /* GNU's goes on with a blank */
}

static espl_status set_name(espl__tar *t, const uint8_t *h, espl_diag *diag) {
    const espl__buffer *said = t->one.name.length ? &t->one.name : &t->all.name;
    const char *name = (const char *)h + NAME, *prefix = (const char *)h + PREFIX;
    t->text.length = 0;
    if (said->length) {
        espl__buffer_append(&t->text, said->data, said->length);
    } else {
        if (is_posix(h) && *prefix) {
            espl__buffer_append(&t->text, prefix, strnlen(prefix, PREFIX_LENGTH));
            espl__buffer_append(&t->text, "/", 1);
        }
        espl__buffer_append(&t->text, name, strnlen(name, NAME_LENGTH));
    }
    t->name = t->text.data;
    return t->text.failed ? espl__nomem(diag, PREFIX_LENGTH + NAME_LENGTH) : ESPL_OK;
}

/* Blocks of a GNU sparse member's list of parts that had no room in the header. */
static espl_status pass_parts(espl__tar *t, const uint8_t *h, espl_diag *diag) {
    uint8_t block[BLOCK];
    espl_status status = ESPL_OK;
    for (bool more = h[SPARSE_MORE]; more && status == ESPL_OK;) {
        status = espl__tar_read(t, block, BLOCK, diag);
        more = status == ESPL_OK && block[SPARSE_MORE_AGAIN];
    }
    return status;
}

/* The member of a header: *is_file if it is one with all its bytes. Types that nobody knows are files, says
 * POSIX; so is an old folder, but for the '/' at its end. Links may have bytes of their own in pax only. */
static espl_status read_member(espl__tar *t, const uint8_t *h, bool *is_file, espl_diag *diag) {
    uint8_t type = h[TYPE];
    bool is_link = type == '1', has_none = type >= '2' && type <= '6';
    const espl__tar_notes *n = t->one.has_size ? &t->one : &t->all;
    espl_status status = set_name(t, h, diag);
    if (n->has_size) t->size = n->size;
    if (has_none || (is_link && !(t->is_pax && is_posix(h)))) t->size = 0; /* whatever the header says */
    if (status == ESPL_OK && type == 'S') status = pass_parts(t, h, diag);
    if (status != ESPL_OK) return status;
    if (t->size > MAX_SIZE) return damaged(t, cut, diag);
    t->next = t->at + ROUND(t->size);
    t->ordinal++;
    size_t length = t->text.length;
    *is_file = !is_link && !has_none && !(type && strchr("ADMNSV", type)) && !t->one.is_sparse &&
               !t->all.is_sparse && length > 0 && t->name[length - 1] != '/';
    clear(&t->one);
    return ESPL_OK;
}

/* The next header; *last: there is none. Of a packed archive the rest is read all the same: zlib then
 * compares its checksum. */
static espl_status read_header(espl__tar *t, uint8_t *h, bool *last, espl_diag *diag) {
    uint64_t got;
    espl_status status = t->gz ? read_to(t, t->next, diag) : ESPL_OK;
    if (status != ESPL_OK) return status;
    if ((t->gz ? t->at : t->file_size) < t->next) return damaged(t, cut, diag);
    t->header = t->at = t->next;
    status = read_some(t, h, BLOCK, &got, diag);
    if (status != ESPL_OK) return status;
    *last = (got == 0 && t->at > 0) || (got == BLOCK && is_zero(h));
    if (*last) return t->gz ? read_to(t, UINT64_MAX, diag) : ESPL_OK;
    if (got < BLOCK || !has_checksum(h)) return damaged(t, "there is no member's header", diag);
    return read_number(h + SIZE, NUMBER_LENGTH, &t->size) ? ESPL_OK
                                                          : damaged(t, "its size is no number", diag);
}

espl_status espl__tar_next(espl__tar *t, espl_diag *diag) {
    uint8_t h[BLOCK];
    bool last, is_file = false;
    while (!is_file) {
        espl_status status = read_header(t, h, &last, diag);
        if (status == ESPL_OK && last) {
            t->name = NULL;
            return ESPL_OK;
        }
        if (status == ESPL_OK)
            status = is_note(h[TYPE]) ? read_note(t, h[TYPE], diag) : read_member(t, h, &is_file, diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

/* --- the archive --------------------------------------------------------------------------------------- */

espl_status espl__tar_open(espl_context *ctx, const char *path, espl__tar *t, espl_diag *diag) {
    static const uint8_t gzip[2] = {0x1f, 0x8b};
    uint8_t first[2];
    uint64_t got;
    struct stat st;
    *t = (espl__tar){.ctx = ctx, .path = path, .ordinal = -1};
    espl__buffer_init(&t->all.name, ctx);
    espl__buffer_init(&t->one.name, ctx);
    espl__buffer_init(&t->text, ctx);
    t->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0 || fstat(t->fd, &st) != 0) return espl__io_fail(diag, path, "cannot be opened");
    t->file_size = (uint64_t)st.st_size;
    espl_status status = read_some(t, first, sizeof first, &got, diag);
    t->at = 0;
    if (status != ESPL_OK || got < sizeof first || memcmp(first, gzip, sizeof first) != 0) return status;
    close(t->fd);
    t->fd = -1;
    return espl__gz_open(path, &t->gz, diag);
}

void espl__tar_close(espl__tar *t) {
    if (t->gz) gzclose(t->gz);
    if (t->fd >= 0) close(t->fd);
    espl__buffer_free(&t->all.name);
    espl__buffer_free(&t->one.name);
    espl__buffer_free(&t->text);
    *t = (espl__tar){.fd = -1};
}
