/* Chips: every bundled profile, the sentences of bad ones, the cost model against figures worked out by hand,
 * the probe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "chip/chip.h"
#include "espalier/chip.h"

static espl_context *ctx;
static uint64_t at_start;

static int setup(void **state) {
    (void)state;
    unsetenv("ESPL_CHIPS");
    if (espl_context_create(NULL, &ctx, NULL) != ESPL_OK) return -1;
    at_start = espl_context_memory(ctx, NULL);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    int leak = espl_context_memory(ctx, NULL) != at_start;
    espl_context_destroy(&ctx);
    return leak ? -1 : 0;
}

static espl_chip *load(const char *name) {
    espl_chip *chip = NULL;
    espl_diag diag = {0};
    if (espl_chip_load(ctx, name, &chip, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return chip;
}
static espl_chip *parse(const char *text) {
    espl_chip *chip = NULL;
    espl_diag diag = {0};
    if (espl_chip_parse(ctx, "c.yaml", text, strlen(text), &chip, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return chip;
}

/* A chip with round numbers: 2 cores at 1 GHz, 10 MAC a cycle for s8 and 1 for f32. */
static const char round_chip[] =
    "name: round\n"
    "description: round numbers\n"
    "backend: export\n"
    "flavour: portable\n"
    "cores: 2\n"
    "clock_ghz: 1\n"
    "channel_multiple: 8\n"
    "fpu: true\n"
    "layer_start_us: 1\n"
    "compute:\n"
    "  - {weights: s8, activations: u8, macs_per_cycle: 10, accumulator_bits: 32, pj_per_mac: 2}\n"
    "  - {weights: f32, activations: f32, macs_per_cycle: 1, accumulator_bits: 24}\n"
    "patterns:\n"
    "  - {pattern: '2:4', speedup: 2}\n"
    "  - {pattern: dense, speedup: 1}\n"
    "memories:\n"
    "  - {name: near, bytes: 1000, gb_per_s: 10, pj_per_byte: 1}\n"
    "  - {name: mid, bytes: 100000, shared: true, gb_per_s: 5, core_gb_per_s: 4, pj_per_byte: 10}\n"
    "  - {name: far, bytes: 1000000, shared: true, gb_per_s: 1, pj_per_byte: 100}\n";

static void close_to(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 * fabs(want))) fail_msg("got %.17g, want %.17g", got, want);
}

static void bundled_profiles_load(void **state) {
    (void)state;
    static const char *const expected[] = {"bbs-arria10", "cortex-a76",   "cortex-m7", "nvidia-a100",     "x86-amx",
                                           "x86-avx-vnni", "x86-avx2", "x86-avx512-vnni", "x86-zen4"};
    int count = 0;
    size_t found = 0;
    for (const char *name; (name = espl_chip_list(count)); count++) {
        espl_chip *chip = load(name);
        assert_string_equal(espl_chip_name(chip), name);
        assert_true(strlen(espl_chip_description(chip)) > 0);
        for (size_t i = 0; i < ESPL_COUNT(expected); i++) found += !strcmp(expected[i], name);
        if (count) assert_true(strcmp(espl_chip_list(count - 1), name) < 0);
        /* The bundle is the file, byte for byte. */
        char path[512];
        snprintf(path, sizeof path, "%s/chips/%s.yaml", ESPL_SOURCE_DIR, name);
        espl_chip *from_file = load(path);
        assert_string_equal(espl_chip_text(from_file), espl_chip_text(chip));
        espl_chip_destroy(&from_file);
        /* The text alone is the profile. */
        espl_chip *again = parse(espl_chip_text(chip));
        assert_string_equal(espl_chip_name(again), name);
        espl_chip_destroy(&again);
        /* Everybody runs s8 weights, packed ones of fewer bits included. */
        bool u8 = espl_chip_supports(chip, ESPL_FORMAT_S8, ESPL_FORMAT_U8);
        bool s8 = espl_chip_supports(chip, ESPL_FORMAT_S8, ESPL_FORMAT_S8);
        assert_true(u8 || s8);
        espl_format activations = u8 ? ESPL_FORMAT_U8 : ESPL_FORMAT_S8;
        assert_true(espl_chip_supports(chip, ESPL_FORMAT_S4, activations));
        espl_chip_layer layer = {.macs = 1000000,
                                 .weight_format = ESPL_FORMAT_S8,
                                 .activation_format = activations,
                                 .weight_bytes = 10000,
                                 .input_bytes = 1000,
                                 .output_bytes = 1000};
        double seconds = espl_chip_layer_seconds(chip, &layer), joules = espl_chip_layer_joules(chip, &layer);
        assert_true(seconds > 0 && seconds < 1 && joules > 0 && joules < 1);
        assert_true(espl_chip_fits(chip, 10000, 2000));
        espl_chip_destroy(&chip);
        assert_null(chip);
    }
    assert_int_equal(found, ESPL_COUNT(expected));
    assert_null(espl_chip_list(count + 5));
    assert_null(espl_chip_list(-1));
}

static void getters_tell_the_profile(void **state) {
    (void)state;
    espl_chip *chip = parse(round_chip);
    espl_chip_compute row;
    espl_chip_memory memory;
    assert_int_equal(espl_chip_cores(chip), 2);
    assert_true(espl_chip_clock_ghz(chip) == 1 && espl_chip_layer_start_us(chip) == 1);
    assert_int_equal(espl_chip_channel_multiple(chip), 8);
    assert_true(espl_chip_has_fpu(chip));
    assert_int_equal(espl_chip_backend(chip), ESPL_BACKEND_EXPORT);
    assert_string_equal(espl_chip_flavour(chip), "portable");
    assert_string_equal(espl_chip_isa(chip), "");
    assert_false(espl_chip_is_host(chip));
    assert_true(espl_chip_compute_at(chip, 1, &row));
    assert_int_equal(row.weights, ESPL_FORMAT_F32);
    assert_int_equal(row.accumulator_bits, 24);
    assert_false(espl_chip_compute_at(chip, 2, &row));
    assert_false(espl_chip_compute_at(chip, -1, &row));
    assert_true(espl_chip_memory_at(chip, 1, &memory));
    assert_string_equal(memory.name, "mid");
    assert_true(memory.shared && memory.holds_weights && memory.holds_activations && memory.core_gb_per_s == 4);
    assert_false(espl_chip_memory_at(chip, 3, &memory));
    assert_true(espl_chip_find_compute(chip, ESPL_FORMAT_S3, ESPL_FORMAT_U8, &row));
    assert_int_equal(row.weights, ESPL_FORMAT_S8);
    assert_false(espl_chip_supports(chip, ESPL_FORMAT_S8, ESPL_FORMAT_F32));
    assert_false(espl_chip_supports(chip, ESPL_FORMAT_S8, ESPL_FORMAT_S8));
    assert_true(espl_chip_pattern_speedup(chip, &(espl_sparsity){0}) == 1);
    espl_chip_destroy(&chip);
    chip = load("x86-avx2");
    assert_string_equal(espl_chip_isa(chip), "avx2");
    assert_string_equal(espl_chip_flavour(chip), "ort-x86");
    espl_chip_destroy(&chip);
    chip = load("bbs-arria10");
    assert_int_equal(espl_chip_backend(chip), ESPL_BACKEND_SIMULATOR);
    espl_chip_destroy(&chip);
}

/* Each row is worked out by hand beside it. Start-up is 1 us everywhere. */
static void roofline_by_hand(void **state) {
    (void)state;
    static const struct {
        int64_t macs;
        espl_format weights;
        uint64_t weight_bytes, input_bytes, output_bytes, resident_bytes;
        int cores;
        double seconds, joules;
    } rows[] = {
        /* Compute bound: 2e6 MAC / (10 x 1e9 x 2) = 100 us. All in near (2 x 1000 bytes, 2 x 10 GB/s): 50 ns.
         * Energy: 2e6 x 2 pJ + 1000 x 1 pJ. */
        {2000000, ESPL_FORMAT_S8, 500, 250, 250, 0, 0, 101e-6, 4.001e-6},
        /* One core: 200 us. */
        {2000000, ESPL_FORMAT_S8, 500, 250, 250, 0, 1, 201e-6, 4.001e-6},
        /* Two cores asked of two, and more than there are. */
        {2000000, ESPL_FORMAT_S8, 500, 250, 250, 0, 64, 101e-6, 4.001e-6},
        /* Packed weights compute as s8. */
        {2000000, ESPL_FORMAT_S4, 250, 250, 250, 0, 0, 101e-6, 4.00075e-6},
        /* Weights of 50000 bytes live in mid: 50000 / 5e9 = 10 us; compute 1 us; near passes 51000 / 20e9
         * = 2.55 us. Energy: 20000 x 2 + mid 50000 x 10 + near 51000 x 1 = 591000 pJ. */
        {20000, ESPL_FORMAT_S8, 50000, 500, 500, 0, 0, 11e-6, 0.591e-6},
        /* The same on one core: mid gives 4 GB/s: 12.5 us. */
        {20000, ESPL_FORMAT_S8, 50000, 500, 500, 0, 1, 13.5e-6, 0.591e-6},
        /* A network of 200000 bytes keeps these weights in far: 50000 / 1e9 = 50 us.
         * Energy: 40000 + far 50000 x 100 + mid 500000 + near 51000 = 5591000 pJ. */
        {20000, ESPL_FORMAT_S8, 50000, 500, 500, 200000, 0, 51e-6, 5.591e-6},
        /* Activations of 60000 bytes in mid, weights of 500 do not fit beside them in near: mid 60500 / 5e9
         * = 12.1 us. Energy: 2000 + 60500 x 10 + 60500 x 1 = 667500 pJ. */
        {1000, ESPL_FORMAT_S8, 500, 30000, 30000, 0, 0, 13.1e-6, 0.6675e-6},
        /* Too large for everything: streams from far, 2e6 / 1e9 = 2 ms.
         * Energy: 2000 + 2e6 x 111 + 100 bytes of activations x 1 = 222002100 pJ. */
        {1000, ESPL_FORMAT_S8, 2000000, 50, 50, 0, 0, 2.001e-3, 222.0021e-6},
        /* Nothing to do costs the start. */
        {0, ESPL_FORMAT_S8, 0, 0, 0, 0, 0, 1e-6, 0},
    };
    espl_chip *chip = parse(round_chip);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_chip_layer layer = {.macs = rows[i].macs, .weight_format = rows[i].weights,
                                 .activation_format = ESPL_FORMAT_U8, .weight_bytes = rows[i].weight_bytes,
                                 .input_bytes = rows[i].input_bytes, .output_bytes = rows[i].output_bytes,
                                 .cores = rows[i].cores, .resident_bytes = rows[i].resident_bytes};
        close_to(espl_chip_layer_seconds(chip, &layer), rows[i].seconds);
        close_to(espl_chip_layer_joules(chip, &layer), rows[i].joules);
    }
    espl_chip_layer f32 = {
        .macs = 2000000, .weight_format = ESPL_FORMAT_F32, .activation_format = ESPL_FORMAT_F32};
    close_to(espl_chip_layer_seconds(chip, &f32), 1.001e-3);
    /* The two limits apart: 1e6 MAC at 1e9 a second, and no bytes. */
    double compute, memory;
    espl_chip_layer_limits(chip, &f32, &compute, &memory);
    close_to(compute, 1e-3);
    assert_true(memory == 0);
    /* The row with weights in mid: 10 us for the bytes, 1 us for the products. */
    espl_chip_layer both = {.macs = 20000, .weight_format = ESPL_FORMAT_S8, .activation_format = ESPL_FORMAT_U8,
                            .weight_bytes = 50000, .input_bytes = 500, .output_bytes = 500};
    espl_chip_layer_limits(chip, &both, &compute, &memory);
    close_to(compute, 1e-6);
    close_to(memory, 10e-6);
    assert_true(isnan(espl_chip_layer_joules(chip, &f32))); /* the row has no pj_per_mac */
    f32.weight_format = ESPL_FORMAT_S8;
    assert_true(isinf(espl_chip_layer_seconds(chip, &f32)) && isinf(espl_chip_layer_joules(chip, &f32)));
    assert_true(espl_chip_fits(chip, 900000, 100000));
    assert_false(espl_chip_fits(chip, 900001, 100000));
    espl_chip_destroy(&chip);
}

/* Memories that hold only one kind, as a microcontroller's do. */
static void separate_memories(void **state) {
    (void)state;
    espl_chip *chip = load("cortex-m7");
    assert_true(espl_chip_fits(chip, 2097152, 524288));
    assert_false(espl_chip_fits(chip, 2097153, 10));
    assert_false(espl_chip_fits(chip, 10, 524289));
    /* Weights pass flash only: 154000 bytes / 1.54 GB/s = 100 us; activations DTCM only: 3840 / 3.84 GB/s = 1
     * us. */
    espl_chip_layer layer = {.macs = 4800, .weight_format = ESPL_FORMAT_S8, .activation_format = ESPL_FORMAT_S8,
                             .weight_bytes = 154000, .input_bytes = 3000, .output_bytes = 840};
    close_to(espl_chip_layer_seconds(chip, &layer), 105e-6);
    /* 4800 MAC at 1 a cycle and 480 MHz: 10 us. */
    layer.weight_bytes = 1540;
    close_to(espl_chip_layer_seconds(chip, &layer), 15e-6);
    espl_chip_destroy(&chip);
}

/* The round chip with one line replaced (from `old` to the end of its line). */
static char *with(const char *old, const char *new) {
    const char *at = strstr(round_chip, old);
    assert_non_null(at);
    const char *rest = strchr(at, '\n');
    char *text = malloc(sizeof round_chip + strlen(new));
    assert_non_null(text);
    sprintf(text, "%.*s%s%s", (int)(at - round_chip), round_chip, new, rest);
    return text;
}

static void bad_profiles_get_a_sentence(void **state) {
    (void)state;
    static const struct {
        const char *old, *new, *sentence;
    } rows[] = {
        {"cores: 2", "cores: four", "c.yaml:5: cores: 'four' is not an integer"},
        {"cores: 2", "cores: 0", "c.yaml:5: cores: 0 is outside 1 to 65536"},
        {"clock_ghz: 1", "clock_ghz: -1", "c.yaml:6: clock_ghz: -1 is outside 1e-06 to 100"},
        {"layer_start_us: 1", "layer_start_us: -1", "c.yaml:9: layer_start_us: -1 is outside 0 to 1e+09"},
        {"fpu: true", "fpu: 1.0", "c.yaml:8: fpu: '1.0' is neither true nor false"},
        {"flavour: portable", "flavour: vanilla",
         "c.yaml:4: flavour: 'vanilla' is not known (one of: portable, ort-x86)"},
        {"backend: export", "backend: host",
         "c.yaml:3: backend: backend host needs isa (which kernels the figures are for), and only it may "
         "have one"},
        {"backend: export", "backend: host\nisa: mmx",
         "c.yaml:4: isa: 'mmx' is not an instruction set with kernels"},
        {"backend: export", "backend: export\nisa: avx2",
         "c.yaml:4: isa: backend host needs isa (which kernels the figures are for), and only it may have "
         "one"},
        {"{weights: f32", "{weights: f31, activations: f32, macs_per_cycle: 1, accumulator_bits: 24}",
         "c.yaml:12: compute[1].weights: 'f31' is not known"},
        {"{weights: f32", "{weights: f32, activations: f32, macs_per_cycle: 0, accumulator_bits: 24}",
         "c.yaml:12: compute[1].macs_per_cycle: 0 is outside 1e-06 to 1e+09"},
        {"{weights: f32", "{weights: f32, activations: f32, macs_per_cycle: 1, accumulator_bits: 65}",
         "c.yaml:12: compute[1].accumulator_bits: 65 is outside 1 to 64"},
        {"{weights: f32", "{weights: s8, activations: u8, macs_per_cycle: 1, accumulator_bits: 32}",
         "c.yaml:12: compute[1]: s8 weights with u8 activations are in compute[0] already"},
        {"pattern: '2:4'", "pattern: '4:2', speedup: 2}",
         "c.yaml:14: patterns[0].pattern: '4:2' is not a pattern"},
        {"pattern: '2:4'", "pattern: '2:4', speedup: 0}", "c.yaml:14: patterns[0].speedup: 0 is outside"},
        {"pattern: dense", "pattern: '2:4', speedup: 1}",
         "c.yaml:15: patterns[1].pattern: '2:4' is in patterns[0] already"},
        {"{name: mid", "{name: mid, bytes: 1000, gb_per_s: 5}",
         "c.yaml:18: memories[1].bytes: memories go from small to large, and mid is not larger than near"},
        {"{name: mid", "{name: mid, bytes: 2000, gb_per_s: 0}",
         "c.yaml:18: memories[1].gb_per_s: 0 is outside"},
        {"{name: mid", "{name: mid, bytes: 2000, gb_per_s: 5, core_gb_per_s: 2}",
         "c.yaml:18: memories[1].core_gb_per_s: it is for shared memories; gb_per_s of mid is one core's "
         "already"},
        {"{name: near", "{bytes: 1000, gb_per_s: 5}", "c.yaml:17: memories[0]: key 'name' is missing"},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        char *text = with(rows[i].old, rows[i].new);
        espl_chip *chip = NULL;
        espl_diag diag = {0};
        assert_int_equal(espl_chip_parse(ctx, "c.yaml", text, strlen(text), &chip, &diag), ESPL_FORMAT);
        assert_null(chip);
        if (strncmp(diag.message, rows[i].sentence, strlen(rows[i].sentence))) fail_msg("%s", diag.message);
        free(text);
    }
    const char *only_weights = strstr(round_chip, "  - {name: near");
    char text[2000];
    snprintf(text, sizeof text, "%.*s  - {name: a, bytes: 5, gb_per_s: 1, holds: weights}\n",
             (int)(only_weights - round_chip), round_chip);
    espl_chip *chip = NULL;
    espl_diag diag = {0};
    assert_int_equal(espl_chip_parse(ctx, "c.yaml", text, strlen(text), &chip, &diag), ESPL_FORMAT);
    assert_string_equal(diag.message, "c.yaml:16: memories: none of them holds activations");
}

static void profiles_are_found(void **state) {
    (void)state;
    espl_chip *chip = NULL;
    espl_diag diag = {0};
    assert_int_equal(espl_chip_load(ctx, "pdp-11", &chip, &diag), ESPL_INVALID);
    assert_null(chip);
    assert_non_null(strstr(diag.message, "'pdp-11'"));
    assert_non_null(strstr(diag.message, "host, bbs-arria10, "));
    diag = (espl_diag){0};
    assert_int_equal(espl_chip_load(ctx, "", &chip, &diag), ESPL_INVALID);
    diag = (espl_diag){0};
    assert_int_equal(espl_chip_load(ctx, "missing.yaml", &chip, &diag), ESPL_IO);
    assert_non_null(strstr(diag.message, "missing.yaml"));
    /* A folder of one's own comes before the bundle. */
    char folder[] = "test_chip_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x86-avx2.yaml", folder);
    assert_int_equal(espl__file_write(ctx, path, round_chip, sizeof round_chip - 1, NULL), ESPL_OK);
    setenv("ESPL_CHIPS", folder, 1);
    chip = load("x86-avx2");
    assert_string_equal(espl_chip_name(chip), "round");
    assert_string_equal(espl_chip_text(chip), round_chip);
    espl_chip_destroy(&chip);
    chip = load("cortex-m7");
    assert_string_equal(espl_chip_name(chip), "cortex-m7");
    espl_chip_destroy(&chip);
    unsetenv("ESPL_CHIPS");
    remove(path);
    remove(folder);
}

/* The round chip with each byte replaced in turn: an answer, no crash, no leak; what loads gives finite costs. */
static void damaged_profiles_are_answered(void **state) {
    (void)state;
    const char bytes[] = {'\0', '\n', '-', '9', 'e', '}'};
    char text[sizeof round_chip];
    for (size_t i = 0; i + 1 < sizeof round_chip; i += 3)
        for (size_t b = 0; b < sizeof bytes; b++) {
            memcpy(text, round_chip, sizeof text);
            text[i] = bytes[b];
            espl_chip *chip = NULL;
            espl_diag diag = {0};
            espl_status status = espl_chip_parse(ctx, "c", text, sizeof text - 1, &chip, &diag);
            assert_int_equal(status == ESPL_OK, chip != NULL);
            assert_int_equal(status, diag.status);
            if (!chip) continue;
            espl_chip_layer layer = {.macs = INT64_MAX, .weight_format = ESPL_FORMAT_S8,
                                     .activation_format = ESPL_FORMAT_U8, .weight_bytes = UINT64_MAX,
                                     .input_bytes = UINT64_MAX, .output_bytes = UINT64_MAX, .cores = INT32_MAX};
            if (espl_chip_supports(chip, ESPL_FORMAT_S8, ESPL_FORMAT_U8))
                assert_true(isfinite(espl_chip_layer_seconds(chip, &layer)));
            espl_chip_destroy(&chip);
        }
}

static void *ration(void *user, size_t bytes) {
    int *left = user;
    return (*left)-- > 0 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}
static void give_back(void *user, void *ptr) {
    (void)user;
    free(ptr);
}

/* Each allocation of a load in turn fails. */
static void survives_lack_of_memory(void **state) {
    (void)state;
    bool done = false;
    for (int allowed = 0; !done; allowed++) {
        int left = 1000;
        espl_config config = {.alloc = ration, .free = give_back, .user = &left, .threads = 1};
        espl_context *poor = NULL;
        assert_int_equal(espl_context_create(&config, &poor, NULL), ESPL_OK);
        left = allowed;
        espl_chip *chip = NULL;
        espl_status status = espl_chip_load(poor, "x86-avx2", &chip, NULL);
        assert_true(status == ESPL_OK || status == ESPL_NOMEM);
        done = status == ESPL_OK;
        espl_chip_destroy(&chip);
        left = 1000;
        espl_context_destroy(&poor);
        assert_true(allowed < 200);
    }
}

static void probe_gives_a_profile_that_loads_again(void **state) {
    (void)state;
    double start = espl__now();
    espl_chip *host = load("host");
    double seconds = espl__now() - start;
    print_message("%s# probed in %.1f s\n", espl_chip_text(host), seconds);
    assert_string_equal(espl_chip_name(host), "host");
    assert_true(espl_chip_is_host(host));
    assert_true(espl_chip_cores(host) >= 1);
    assert_string_equal(espl_chip_isa(host), espl_cpu_name());
    assert_true(espl_chip_clock_ghz(host) > 0.1 && espl_chip_clock_ghz(host) < 10);
    espl_chip_compute s8, f32;
    assert_true(espl_chip_find_compute(host, ESPL_FORMAT_S8, ESPL_FORMAT_U8, &s8));
    assert_true(espl_chip_find_compute(host, ESPL_FORMAT_F32, ESPL_FORMAT_F32, &f32));
    /* No core known multiplies more than this in a cycle without matrix units. */
    assert_true(s8.macs_per_cycle > 0 && s8.macs_per_cycle < 1024 && f32.macs_per_cycle > 0 &&
                f32.macs_per_cycle < 256);
    espl_chip_memory memory;
    int memories = 0;
    while (espl_chip_memory_at(host, memories, &memory)) memories++;
    assert_true(memories >= 2);
    assert_string_equal(memory.name, "DRAM");
    espl_chip *again = parse(espl_chip_text(host));
    assert_string_equal(espl_chip_text(again), espl_chip_text(host));
    espl_chip_layer layer = {.macs = 1000000, .weight_format = ESPL_FORMAT_S8, .activation_format = ESPL_FORMAT_U8,
                             .weight_bytes = 1000000, .input_bytes = 1000, .output_bytes = 1000};
    assert_true(espl_chip_layer_seconds(again, &layer) == espl_chip_layer_seconds(host, &layer));
    assert_true(isnan(espl_chip_layer_joules(host, &layer))); /* nothing here measures energy */
    espl_chip_destroy(&again);
    espl_chip_destroy(&host);
}

static void patterns_gain_where_the_weights_satisfy_them(void **state) {
    (void)state;
    static const struct {
        const char *chip, *pattern;
        double speedup;
    } rows[] = {
        {"nvidia-a100", "2:4", 2},        {"nvidia-a100", "bank 2:4", 2},      {"nvidia-a100", "1:4", 2},
        {"nvidia-a100", "1:2", 2},        {"nvidia-a100", "3:4", 1},           {"nvidia-a100", "bank 2:8", 1},
        {"nvidia-a100", "dense", 1},      {"nvidia-a100", "unstructured 99%", 1}, {"bbs-arria10", "bank 4:32", 8},
        {"bbs-arria10", "bank 2:16", 8},  {"bbs-arria10", "bank 4:16", 4},     {"bbs-arria10", "bank 5:32", 4},
        {"bbs-arria10", "bank 2:24", 1},  {"bbs-arria10", "bank 9:32", 1},     {"x86-avx2", "2:4", 1},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_chip *chip = load(rows[i].chip);
        espl_sparsity pattern;
        assert_true(espl_sparsity_parse(rows[i].pattern, &pattern));
        double got = espl_chip_pattern_speedup(chip, &pattern);
        if (got != rows[i].speedup) fail_msg("%s on %s: %g", rows[i].pattern, rows[i].chip, got);
        espl_chip_destroy(&chip);
    }
    espl_sparsity pattern;
    assert_true(espl__chip_pattern("unstructured", &pattern) && pattern.share == 0);
    assert_true(espl__chip_pattern("block 4x4 50%", &pattern) && pattern.rows == 4);
    assert_false(espl__chip_pattern("channel", &pattern));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(patterns_gain_where_the_weights_satisfy_them, setup, teardown),
        cmocka_unit_test_setup_teardown(bundled_profiles_load, setup, teardown),
        cmocka_unit_test_setup_teardown(getters_tell_the_profile, setup, teardown),
        cmocka_unit_test_setup_teardown(roofline_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(separate_memories, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_profiles_get_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(profiles_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_profiles_are_answered, setup, teardown),
        cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test_setup_teardown(probe_gives_a_profile_that_loads_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
