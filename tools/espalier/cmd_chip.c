#include <stdlib.h>
#include <string.h>

#include "espalier/chip.h"
#include "files.h"
#include "host_peak.h"
#include "text.h"

typedef struct chip_options {
    const char *file;
    bool yaml;
} chip_options;

static const option options[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .offset = offsetof(chip_options, file),
     .argument = "FILE",
     .help = "for probe: writes the profile there"},
    {.name = "yaml",
     .kind = OPTION_FLAG,
     .offset = offsetof(chip_options, yaml),
     .help = "for show and probe: the profile itself, which can be saved and changed"},
    {0},
};

static const char *backend_name(espl_backend backend) {
    return backend == ESPL_BACKEND_HOST ? "host" : backend == ESPL_BACKEND_EXPORT ? "export" : "simulator";
}

/* --- one chip ---------------------------------------------------------------------------------------- */

/* Billions of MACs a second of all cores. */
static double peak_gmacs(const espl_chip *chip, const espl_chip_compute *row) {
    return row->macs_per_cycle * espl_chip_clock_ghz(chip) * espl_chip_cores(chip);
}

static json_t *chip_value(const espl_chip *chip) {
    json_t *root = json_object(), *compute = json_array(), *memories = json_array();
    espl_chip_compute rate;
    espl_chip_memory memory;
    for (int i = 0; espl_chip_compute_at(chip, i, &rate); i++) {
        json_t *row = json_object();
        put(row, "weights", text_value(espl_format_name(rate.weights)));
        put(row, "activations", text_value(espl_format_name(rate.activations)));
        put(row, "macs_per_cycle", number_value(rate.macs_per_cycle));
        put(row, "gmacs_per_s", number_value(peak_gmacs(chip, &rate)));
        put(row, "pj_per_mac", rate.pj_per_mac > 0 ? number_value(rate.pj_per_mac) : json_null());
        push(compute, row);
    }
    for (int i = 0; espl_chip_memory_at(chip, i, &memory); i++) {
        json_t *row = json_object();
        put(row, "name", text_value(memory.name));
        put(row, "bytes", json_integer((json_int_t)memory.bytes));
        put(row, "shared", json_boolean(memory.shared));
        put(row, "gb_per_s", number_value(memory.gb_per_s));
        put(row, "pj_per_byte", memory.pj_per_byte > 0 ? number_value(memory.pj_per_byte) : json_null());
        push(memories, row);
    }
    put(root, "name", text_value(espl_chip_name(chip)));
    put(root, "description", text_value(espl_chip_description(chip)));
    put(root, "backend", text_value(backend_name(espl_chip_backend(chip))));
    put(root, "isa", text_value(espl_chip_isa(chip)));
    put(root, "runs_here", json_boolean(espl_chip_is_host(chip)));
    put(root, "flavour", text_value(espl_chip_flavour(chip)));
    put(root, "cores", json_integer(espl_chip_cores(chip)));
    put(root, "clock_ghz", number_value(espl_chip_clock_ghz(chip)));
    put(root, "layer_start_us", number_value(espl_chip_layer_start_us(chip)));
    put(root, "compute", compute);
    put(root, "memories", memories);
    return root;
}

static bool print_rates(const espl_chip *chip) {
    static const column columns[] = {{"weights", COLUMN_TEXT},
                                     {"activations", COLUMN_TEXT},
                                     {"MACs a cycle", COLUMN_NUMBER},
                                     {"GMAC/s, all cores", COLUMN_NUMBER},
                                     {"pJ a MAC", COLUMN_NUMBER}};
    espl_chip_compute rate;
    table *t = table_new(columns, COUNT(columns));
    for (int i = 0; espl_chip_compute_at(chip, i, &rate); i++) {
        table_add(t, espl_format_name(rate.weights));
        table_add(t, espl_format_name(rate.activations));
        table_cell(t, cell_format("%.4g", rate.macs_per_cycle));
        table_cell(t, cell_format("%.4g", peak_gmacs(chip, &rate)));
        table_cell(t, rate.pj_per_mac > 0 ? cell_format("%.4g", rate.pj_per_mac) : cell_format("-"));
    }
    bool good = table_print(t, stdout, TABLE_WIDTH);
    table_free(t);
    return good;
}

static bool print_memories(const espl_chip *chip) {
    static const column columns[] = {{"memory", COLUMN_TEXT},
                                     {"size", COLUMN_NUMBER},
                                     {"GB/s", COLUMN_NUMBER},
                                     {"", COLUMN_TEXT},
                                     {"pJ a byte", COLUMN_NUMBER}};
    espl_chip_memory memory;
    table *t = table_new(columns, COUNT(columns));
    for (int i = 0; espl_chip_memory_at(chip, i, &memory); i++) {
        table_add(t, memory.name);
        table_cell(t, cell_bytes(memory.bytes));
        table_cell(t, cell_format("%.4g", memory.gb_per_s));
        table_add(t, memory.shared ? "shared" : "each core");
        table_cell(t, memory.pj_per_byte > 0 ? cell_format("%.4g", memory.pj_per_byte) : cell_format("-"));
    }
    bool good = table_print(t, stdout, TABLE_WIDTH);
    table_free(t);
    return good;
}

static espl_status print_chip(cli *c, const espl_chip *chip, bool yaml) {
    if (c->common.json) return json_print(c, chip_value(chip));
    if (yaml) {
        fputs(espl_chip_text(chip), stdout);
        return ESPL_OK;
    }
    printf("%s: %s\n", espl_chip_name(chip), espl_chip_description(chip));
    printf("%d core%s at %g GHz, backend %s%s%s, exports as %s%s\n\n", espl_chip_cores(chip),
           espl_chip_cores(chip) == 1 ? "" : "s", espl_chip_clock_ghz(chip),
           backend_name(espl_chip_backend(chip)), *espl_chip_isa(chip) ? " " : "", espl_chip_isa(chip),
           espl_chip_flavour(chip), espl_chip_is_host(chip) ? "; its kernels run on this machine" : "");
    bool good = print_rates(chip);
    printf("\n");
    return good && print_memories(chip) ? ESPL_OK : nomem(c);
}

/* --- actions ----------------------------------------------------------------------------------------- */

static espl_status list_chip(cli *c, const char *name, table *t, json_t *chips) {
    espl_chip *chip = NULL;
    espl_status status = espl_chip_load(c->ctx, name, &chip, &c->diag);
    if (status != ESPL_OK) return status;
    push(chips, chip_value(chip));
    table_add(t, name);
    table_add(t, backend_name(espl_chip_backend(chip)));
    table_cell(t, cell_format("%d", espl_chip_cores(chip)));
    table_add(t, espl_chip_description(chip));
    espl_chip_destroy(&chip);
    return ESPL_OK;
}

static bool is_bundled(const char *name) {
    for (int i = 0; espl_chip_list(i); i++)
        if (!strcmp(espl_chip_list(i), name)) return true;
    return false;
}

/* The profiles of $ESPL_CHIPS, less those that stand in for a bundled one and one that nobody finds under this name. A bad
 * one ends the list: it is told with its line. */
static espl_status list_own(cli *c, table *t, json_t *chips) {
    const char *folder = getenv("ESPL_CHIPS"), *ending = ".yaml";
    char **names = NULL;
    int count = 0;
    if (!folder || !*folder) return ESPL_OK;
    espl_status status = list_folder(c, folder, "", ending, &names, &count);
    for (int i = 0; status == ESPL_OK && i < count; i++) {
        names[i][strlen(names[i]) - strlen(ending)] = 0;
        if (!is_bundled(names[i]) && strcmp(names[i], "host") != 0) status = list_chip(c, names[i], t, chips);
    }
    free_names(names, count);
    return status;
}

static espl_status list(cli *c, const chip_options *o) {
    static const column columns[] = {{"chip", COLUMN_TEXT},
                                     {"backend", COLUMN_TEXT},
                                     {"cores", COLUMN_NUMBER},
                                     {"description", COLUMN_WRAP}};
    (void)o;
    table *t = table_new(columns, COUNT(columns));
    json_t *chips = json_array(), *root = json_object();
    espl_status status = list_own(c, t, chips);
    for (int i = 0; status == ESPL_OK && espl_chip_list(i); i++) status = list_chip(c, espl_chip_list(i), t, chips);
    table_add(t, "host");
    table_add(t, "host");
    table_add(t, "");
    table_add(t, "this machine, measured when it is named");
    put(root, "chips", chips);
    if (status == ESPL_OK && c->common.json)
        status = json_print(c, json_incref(root));
    else if (status == ESPL_OK && !table_print(t, stdout, TABLE_WIDTH))
        status = nomem(c);
    json_decref(root);
    table_free(t);
    return status;
}

static espl_status show(cli *c, const chip_options *o) {
    espl_chip *chip = NULL;
    espl_status status = espl_chip_load(c->ctx, c->operands[1], &chip, &c->diag);
    if (status == ESPL_OK) status = print_chip(c, chip, o->yaml);
    espl_chip_destroy(&chip);
    return status;
}

static espl_status check(cli *c, const chip_options *o) {
    const char *file = c->operands[1];
    espl_chip *chip = NULL;
    (void)o;
    if (!strchr(file, '/') && !strstr(file, ".yaml"))
        return usage_fail(
            c, "check: '%s' is no path of a .yaml file; espalier chip show explains bundled chips", file);
    espl_status status = espl_chip_load(c->ctx, file, &chip, &c->diag);
    if (status == ESPL_OK && c->common.json)
        status = json_print(c, chip_value(chip));
    else if (status == ESPL_OK)
        printf("%s: a good profile of %s\n", file, espl_chip_name(chip));
    espl_chip_destroy(&chip);
    return status;
}

static espl_status probe(cli *c, const chip_options *o) {
    espl_chip *chip = NULL;
    note(c, "measuring this machine, a few seconds");
    espl_status status = espl_chip_probe(c->ctx, &chip, &c->diag);
    if (status == ESPL_OK) keep_host_chip(c, chip);
    if (status == ESPL_OK && o->file) status = write_text(c, o->file, espl_chip_text(chip));
    if (status == ESPL_OK) status = print_chip(c, chip, o->yaml);
    espl_chip_destroy(&chip);
    return status;
}

static const struct {
    const char *name, *argument;
    espl_status (*run)(cli *c, const chip_options *o);
} actions[] = {
    {"list", NULL, list}, {"show", "NAME", show}, {"check", "FILE", check}, {"probe", NULL, probe}};

static const char *action_word(int index) {
    return (size_t)index < COUNT(actions) ? actions[index].name : NULL;
}

static espl_status run(cli *c, const void *given) {
    const chip_options *o = given;
    for (size_t i = 0; i < COUNT(actions); i++) {
        if (strcmp(actions[i].name, c->operands[0]) != 0) continue;
        if (actions[i].argument && c->operand_count < 2)
            return usage_fail(c, "chip %s: %s is missing", actions[i].name, actions[i].argument);
        if (!actions[i].argument && c->operand_count > 1)
            return usage_fail(c, "chip %s: '%s' is one argument too many", actions[i].name, c->operands[1]);
        if (o->file && actions[i].run != probe) return usage_fail(c, "-o: goes with probe");
        return actions[i].run(c, o);
    }
    return usage_fail(c, "'%s' is none of list, show, check and probe", c->operands[0]);
}

const command command_chip = {
    .operands = "list | show NAME | check FILE | probe",
    .words = action_word,
    .least_operands = 1,
    .most_operands = 2,
    .options = options,
    .size = sizeof(chip_options),
    .run = run,
    .about = "A chip profile is a YAML file that says what a chip can run and what it costs. `list` names "
             "those built in and those of the folder $ESPL_CHIPS, "
             "`show` prints one, `check` reads a file of your own and points at the line of a mistake, and "
             "`probe` "
             "measures this machine: rates per format and bandwidth per memory.",
    .example = "espalier chip list\nespalier chip show cortex-m7\nespalier chip probe -o here.yaml",
};
