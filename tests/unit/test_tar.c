/* Archives as GNU tar and Python's tarfile make and read them (tests/oracle/make_tar_fixtures.py), packed and
 * plain; and those that nobody makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "data/bundle.h"

enum { BLOCK = 512, MOST = 1 << 14 };

static espl_context *ctx;
static uint64_t at_start;
static char folder[] = "/tmp/espl_tar_XXXXXX", scratch[sizeof folder + 16];

static int setup(void **state) {
    (void)state;
    if (espl_context_create(NULL, &ctx, NULL) != ESPL_OK || !mkdtemp(folder)) return -1;
    snprintf(scratch, sizeof scratch, "%s/x.tar", folder);
    at_start = espl_context_memory(ctx, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    bool leak = espl_context_memory(ctx, NULL) != at_start;
    espl_context_destroy(&ctx);
    unlink(scratch);
    rmdir(folder);
    return leak ? -1 : 0;
}

/* --- what others make ---------------------------------------------------------------------------------- */

static const char *fixture(const char *name, const char *ending) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/fixtures/tar/%s%s", ESPL_SOURCE_DIR, name, ending);
    return path;
}

/* A line a member, as the fixture's list has them. */
static void check_listing(const char *path, const char *list, espl__bundle_form form) {
    espl__bundle b;
    espl__buffer text;
    espl_diag diag = {0};
    uint8_t *wanted;
    uint64_t length;
    espl__buffer_init(&text, ctx);
    if (espl__bundle_open(ctx, path, &b, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(b.form, form);
    for (int64_t m = 0; m < b.count; m++) b.members[m].wanted = true;
    assert_int_equal(espl__bundle_keep(&b, NULL), ESPL_OK);
    for (int64_t m = 0; m < b.count; m++) {
        const espl__member *member = &b.members[m];
        const uint8_t *bytes;
        if (espl__bundle_read(&b, member, &bytes, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        espl__buffer_printf(&text, "%" PRId64 " %" PRIu64 " %08" PRIx32 " %s\n", member->ordinal,
                            member->size, espl__crc32(bytes, member->size), member->name);
    }
    assert_int_equal(espl__file_read(ctx, list, 0, &wanted, &length, NULL), ESPL_OK);
    assert_int_equal(text.length, length);
    assert_memory_equal(text.data, wanted, length);
    espl__free(ctx, wanted);
    espl__buffer_free(&text);
    espl__bundle_close(&b);
}

static void test_formats(void **state) {
    (void)state;
    static const char *const names[] = {"v7",         "ustar",       "gnu",         "gnu_sparse",
                                        "pax",        "pax_sparse0", "pax_sparse1", "python_ustar",
                                        "python_gnu", "python_pax",  "by_hand"};
    for (size_t i = 0; i < ESPL_COUNT(names); i++) {
        uint8_t *bytes;
        uint64_t length;
        char list[1024];
        snprintf(list, sizeof list, "%s", fixture(names[i], ".txt"));
        check_listing(fixture(names[i], ".tar.gz"), list, ESPL__BUNDLE_COMPRESSED);
        assert_int_equal(espl__gz_read(ctx, fixture(names[i], ".tar.gz"), &bytes, &length, NULL), ESPL_OK);
        assert_int_equal(espl__file_write(ctx, scratch, bytes, length, NULL), ESPL_OK);
        check_listing(scratch, list, ESPL__BUNDLE_TAR);
        espl__free(ctx, bytes);
    }
}

/* --- by hand ------------------------------------------------------------------------------------------- */

static uint8_t archive[MOST];
static size_t used;

static void set_checksum(uint8_t *h, bool with_signs) {
    int sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++) sum += with_signs ? (int8_t)h[i] : h[i];
    snprintf((char *)h + 148, 8, "%06o", (unsigned)sum & 0777777);
}

static uint8_t *put_header(const char *name, const char *size, char type) {
    uint8_t *h = archive + used;
    memset(h, 0, BLOCK);
    memcpy(h, name, strlen(name));
    memcpy(h + 124, size, strlen(size));
    memcpy(h + 257, "ustar\00000", 8);
    h[156] = (uint8_t)type;
    set_checksum(h, false);
    used += BLOCK;
    return h;
}

static void put_bytes(const char *bytes) {
    memset(archive + used, 0, BLOCK);
    memcpy(archive + used, bytes, strlen(bytes));
    used += BLOCK;
}

static void put_note(char type, const char *text) {
    char size[12];
    snprintf(size, sizeof size, "%o", (unsigned)strlen(text));
    put_header("note", size, type);
    put_bytes(text);
}

/* What the archive's only member is called; "" if there is none. */
static const char *only_name(void) {
    static char name[256];
    espl__bundle b;
    espl_diag diag = {0};
    assert_int_equal(espl__file_write(ctx, scratch, archive, used, NULL), ESPL_OK);
    if (espl__bundle_open(ctx, scratch, &b, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_true(b.count <= 1);
    snprintf(name, sizeof name, "%s", b.count ? b.members[0].name : "");
    espl__bundle_close(&b);
    used = 0;
    return name;
}

static void test_taken(void **state) {
    (void)state;
    put_header("no zeros after it", "00000000007 ", '0');
    put_bytes("7 bytes");
    assert_string_equal(only_name(), "no zeros after it");
    set_checksum(put_header("\xe4gypt", "0", '0'), true);
    assert_string_equal(only_name(), "\xe4gypt");
    put_header("", "0", '0');
    assert_string_equal(only_name(), "");
    put_header("of a type to come", "0", 'Z');
    assert_string_equal(only_name(), "of a type to come");
    put_header("a part", "1", 'M');
    put_bytes("1");
    assert_string_equal(only_name(), "");
    put_bytes("");
    put_header("after the end", "0", '0');
    assert_string_equal(only_name(), "");
    memcpy(put_header("file", "0", '0') + 345, "folder", 6);
    set_checksum(archive, false);
    assert_string_equal(only_name(), "folder/file");
    put_note('x', "14 path=other\n8 path=\n"); /* said and taken back */
    put_header("its own", "0", '0');
    assert_string_equal(only_name(), "its own");
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        char type;
        const char *size, *bytes, *sentence;
    } cases[] = {
        {'0', "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "", "byte 0: its size is no number"},
        {'0', "\x80\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01", "", "byte 0: its size is no number"},
        {'0', "12x", "", "byte 0: its size is no number"},
        {'0', "00000001001 ", "", "byte 0: the member ends too early"},
        {'0', "77777777777", "", "byte 0: the member ends too early"},
        {'0', "1001", "", "byte 0: the member ends too early"},
        {'0', "0", "no header", "byte 512: there is no member's header"},
        {'x', "00004000001", "", "byte 0: its names are longer than 1 MiB"},
        {'L', "1001", "", "byte 0: the member ends too early"},
        {'x', "11", "99 path=a", "a record of pax has no sound length"},
        {'x', "11", "8 path=ab", "a record of pax has no sound length"},
        {'x', "11", "9path=ab\n", "a record of pax has no sound length"},
        {'x', "11", "-1 path=\n", "a record of pax has no sound length"},
        {'x', "3", "3 \n", "a record of pax has no sound length"},
        {'x', "25", "99999999999999999999\n", "a record of pax has no sound length"},
        {'g', "7", "7 path\n", "a record of pax has no '='"},
        {'x', "13", "11 size=-5\n", "its size is no number"},
        {'x', "35", "29 size=99999999999999999999\n", "its size is no number"},
    };
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl__bundle b;
        espl_diag diag = {0};
        put_header("name", cases[i].size, cases[i].type);
        put_bytes(cases[i].bytes);
        assert_int_equal(espl__file_write(ctx, scratch, archive, used, NULL), ESPL_OK);
        if (espl__bundle_open(ctx, scratch, &b, &diag) != ESPL_FORMAT ||
            !strstr(diag.message, cases[i].sentence))
            fail_msg("case %zu: %s", i, diag.message);
        espl__bundle_close(&b);
        used = 0;
    }
}

static void refuse(const uint8_t *bytes, uint64_t length, const char *sentence) {
    espl__bundle b;
    espl_diag diag = {0};
    assert_int_equal(espl__file_write(ctx, scratch, bytes, length, NULL), ESPL_OK);
    if (espl__bundle_open(ctx, scratch, &b, &diag) != ESPL_FORMAT || !strstr(diag.message, sentence))
        fail_msg("%" PRIu64 " bytes: %s", length, diag.message);
    espl__bundle_close(&b);
}

/* A packed archive is as its maker left it, to the checksum at its end. */
static void test_cut(void **state) {
    (void)state;
    uint8_t *bytes;
    uint64_t length;
    refuse(NULL, 0, "there is no member's header");
    put_header("not padded", "7", '0');
    put_bytes("7 bytes");
    refuse(archive, used - 1, "the member ends too early");
    refuse((const uint8_t *)"x", 1, "there is no member's header");
    assert_int_equal(espl__file_read(ctx, fixture("gnu", ".tar.gz"), 0, &bytes, &length, NULL), ESPL_OK);
    for (uint64_t kept = 1; kept < length; kept += kept < length - 12 ? 100 : 1)
        refuse(bytes, kept, kept > 2 ? "it ends too early" : "");
    bytes[length - 6] ^= 1;
    refuse(bytes, length, "incorrect data check");
    espl__free(ctx, bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests_name("tar", tests, setup, teardown);
}
