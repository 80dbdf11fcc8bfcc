/* Vectors against the operators' references: each folder holds model.onnx and
 * test_data_set_N/{input,output}_N.pb, as ONNX's own do.
 *
 *   conformance [--data FOLDER | --assets FOLDER] [--passes | --session] [--all | --expected FILE] [--names] [--verbose]
 *               [TEST...]
 *
 * Without names every test of FOLDER runs; --assets takes FOLDER from $ESPL_ASSETS (default ../shared). A test
 * passes if every output has the right type and shape and equals the vector, floats within 1e-5 + 1e-3
 * |expected|. Networks with results whose shapes depend on data run in a session. It is skipped, with the reason, if the
 * reader or inference refuses the model, and fails if it computes something else; of outputs that are drawn at random only
 * type and shape are looked at. With --passes the graph goes through all passes first, which may not change what it
 * computes. With --session it is a session on the kernels that computes, if the graph's inputs can stay inputs. With --all
 * every test must pass, with --expected those that FILE names; --names prints the names of
 * those that pass, which is how FILE is made. Exit: 0; 1 if a test fails; 77 without vectors. */
#include "espalier/onnx.h"
#include "espalier/session.h"
#include "onnx/lists.h"
#include "ops/ops.h"
#include "passes/late.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_TENSORS = 64, PATH_SIZE = 1024, NAME_SIZE = 160 };
/* folder/name; "" (which nothing is) if it does not fit. */
static const char *join(char *buf, size_t size, const char *folder, const char *name) {
    int n = snprintf(buf, size, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= size) buf[0] = 0;
    return buf;
}

typedef enum result { PASS, FAIL, SKIP } result;

static const char *const result_names[] = {"pass", "fail", "skip"};

/* --- one data set ---------------------------------------------------------------------------- */

/* A file: a tensor, or the tensors of a sequence. */
typedef struct item {
    bool list;
    int first, count; /* of the tensors; count -1: an optional value that holds nothing */
} item;

typedef struct vectors {
    espl_tensor inputs[MAX_TENSORS], outputs[MAX_TENSORS];
    int input_count, output_count; /* tensors */
    item given[MAX_TENSORS], wanted[MAX_TENSORS];
    bool lists;
} vectors;

static espl_status read_item(espl_context *ctx, const char *path, espl__kind kind, espl_tensor *tensors, int *count,
                             item *out, espl_diag *diag) {
    espl_status status;
    *out = (item){false, *count, 1};
    if (kind == ESPL__TENSOR)
        status = *count < MAX_TENSORS ? espl_onnx_read_tensor(ctx, path, &tensors[*count], diag) : ESPL_LIMIT;
    else
        status = espl__onnx_read_list(ctx, path, kind == ESPL__OPTIONAL, tensors + *count, MAX_TENSORS - *count, &out->count,
                                      &out->list, diag);
    *count += ESPL_MAX(out->count, 0);
    return status;
}

/* Files as many and as the values say; one more or less is an error. */
static espl_status read_all(espl_context *ctx, const char *folder, const char *kind, espl__value *const *values, int files,
                            espl_tensor *out, int *count, item *items, bool *lists, espl_diag *diag) {
    char path[PATH_SIZE], name[32];
    for (int i = 0; i <= files; i++) {
        snprintf(name, sizeof name, "%s_%d.pb", kind, i);
        bool there = access(join(path, sizeof path, folder, name), R_OK) == 0;
        if (there != (i < files) || i >= MAX_TENSORS)
            return espl__fail(diag, ESPL_SHAPE, "the vectors do not fit the model's inputs and outputs");
        if (i == files) return ESPL_OK;
        espl_status status = read_item(ctx, path, values[i]->kind, out, count, &items[i], diag);
        if (status != ESPL_OK) return status;
        *lists = *lists || values[i]->kind != ESPL__TENSOR;
    }
    return ESPL_OK;
}

static void free_vectors(espl_context *ctx, vectors *v) {
    for (int i = 0; i < MAX_TENSORS; i++) {
        espl_tensor_free(ctx, &v->inputs[i]);
        espl_tensor_free(ctx, &v->outputs[i]);
    }
}

/* bf16 may be one step off: the vectors were made by truncation, where the standard now says to the nearest. */
static bool close_enough(double got, double want, espl_dtype dtype) {
    double relative = dtype == ESPL_BF16 ? 1.0 / 128 : 1e-3;
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got)) return want == got;
    return fabs(got - want) <= 1e-5 + relative * fabs(want);
}

static const char *compare_text(const espl_tensor *got, const espl_tensor *want, char *reason, size_t size) {
    const espl_text *a = got->data, *b = want->data;
    for (int64_t i = 0, n = espl_shape_count(&got->shape); i < n; i++) {
        if (espl__text_equal(&a[i], &b[i])) continue;
        snprintf(reason, size, "element %lld is '%.*s' instead of '%.*s'", (long long)i, (int)a[i].length, a[i].bytes,
                 (int)b[i].length, b[i].bytes);
        return reason;
    }
    return NULL;
}

/* NULL if they agree, else what differs. */
static const char *compare(const espl_tensor *got, const espl_tensor *want, bool drawn, char *reason, size_t size) {
    char a[128], b[128];
    if (got->dtype != want->dtype || !espl_shape_equal(&got->shape, &want->shape)) {
        snprintf(reason, size, "%s %s instead of %s %s", espl_dtype_name(got->dtype),
                 espl_shape_text(&got->shape, a, sizeof a), espl_dtype_name(want->dtype),
                 espl_shape_text(&want->shape, b, sizeof b));
        return reason;
    }
    if (got->dtype == ESPL_STRING) return compare_text(got, want, reason, size);
    size_t elem = espl_dtype_bytes(got->dtype);
    for (int64_t i = 0, n = drawn ? 0 : espl_shape_count(&got->shape); i < n; i++) {
        const char *pa = (const char *)got->data + (size_t)i * elem,
                   *pb = (const char *)want->data + (size_t)i * elem;
        double x, y;
        espl__load_f64(got->dtype, pa, 0, 1, &x);
        espl__load_f64(want->dtype, pb, 0, 1, &y);
        bool fits =
            espl_dtype_is_float(got->dtype) ? close_enough(x, y, got->dtype) : memcmp(pa, pb, elem) == 0;
        if (fits) continue;
        snprintf(reason, size, "element %lld is %.9g instead of %.9g", (long long)i, x, y);
        return reason;
    }
    return NULL;
}

static bool through_passes, through_session; /* --passes, --session */

/* ONNX leaves the generator open: the numbers of these vectors are NumPy's. */
static bool is_drawn(const char *folder) {
    return strstr(folder, "/test_bernoulli") || (strstr(folder, "/test_training_dropout") && !strstr(folder, "zero_ratio"));
}

/* --- one test -------------------------------------------------------------------------------- */

/* A node behind all others, of one output. */
static espl__value *add_node(espl_graph *g, const char *op, espl__value *const *in, int count, espl__value *out) {
    espl__node *n = espl__graph_node(g, espl__op_find("", op), "", count, 1, 0);
    if (!out) out = espl__graph_value(g, NULL);
    if (!n || !out) return NULL;
    n->opset = ESPL_MAX(g->opset, n->op->since);
    for (int i = 0; i < count; i++) n->inputs[i] = in[i];
    espl__node_set_output(n, 0, out);
    return out;
}

/* A sequence or optional value as a node that makes it of constants. */
static bool bind_list(espl_graph *g, espl__value *value, const item *x, const espl_tensor *tensors) {
    espl__value *in[MAX_TENSORS];
    for (int i = 0; i < x->count; i++)
        if (!(in[i] = espl__graph_constant(g, NULL, &tensors[x->first + i]))) return false;
    const char *op = !x->list ? "Optional" : x->count ? "SequenceConstruct" : "SequenceEmpty";
    return add_node(g, op, in, ESPL_MAX(x->count, 0), value) != NULL;
}

/* Makes the inputs constants: operators whose result's shape depends on data (Reshape's target, Slice's
 * limits) then see it where models have it. The graph folds and its outputs are constants. */
static bool bind_inputs(espl_graph *g, const vectors *v) {
    for (int i = 0; i < g->input_count; i++) {
        espl__value *value = g->inputs[i];
        const espl_tensor *t = &v->inputs[v->given[i].first];
        value->is_input = false;
        if (value->kind != ESPL__TENSOR) {
            if (!bind_list(g, value, &v->given[i], v->inputs)) return false;
            continue;
        }
        value->constant = espl__graph_tensor(g, t->dtype, &t->shape, t->data);
        if (!value->constant) return false;
        value->dtype = t->dtype;
        value->shape = t->shape;
        value->known_rank = true;
    }
    g->input_count = 0;
    return true;
}

/* Sequences that go out become their length and their elements; so do the vectors. */
static bool open_outputs(espl_context *ctx, espl_graph *g, vectors *v) {
    espl__value *outputs[MAX_TENSORS];
    espl_tensor wanted[MAX_TENSORS] = {0};
    int count = 0;
    for (int i = 0; i < g->output_count; i++) {
        espl__value *value = g->outputs[i], *in[2] = {value, NULL};
        const item *x = &v->wanted[i];
        if (count + x->count + 1 > MAX_TENSORS) return false;
        if (value->kind != ESPL__TENSOR && x->list) {
            int64_t length = x->count;
            if (espl_tensor_alloc(ctx, ESPL_S64, &(espl_shape){0}, &wanted[count], NULL) != ESPL_OK) return false;
            memcpy(wanted[count].data, &length, sizeof length);
            outputs[count++] = add_node(g, "SequenceLength", in, 1, NULL);
        }
        for (int64_t k = 0; k < x->count; k++) {
            espl_tensor at = {ESPL_S64, {0}, &k};
            wanted[count] = v->outputs[x->first + k];
            if (x->list) in[1] = espl__graph_constant(g, NULL, &at);
            outputs[count++] = value->kind == ESPL__TENSOR ? value
                               : x->list                   ? add_node(g, "SequenceAt", in, 2, NULL)
                                                           : add_node(g, "OptionalGetElement", in, 1, NULL);
        }
    }
    memcpy(v->outputs, wanted, sizeof wanted);
    v->output_count = count;
    return espl__graph_set_io(g, g->inputs, g->input_count, outputs, count) && espl__graph_verify(g, NULL) == ESPL_OK;
}

/* Vectors from before NumPy had bf16 hold its bits as u16. */
static void restore_bf16(espl_tensor *tensor, espl_dtype said) {
    if (tensor->dtype == ESPL_U16 && said == ESPL_BF16) tensor->dtype = ESPL_BF16;
}

/* By the kernels, and where only the run tells shapes; `outputs` are the caller's to free. */
static espl_status run_session(espl_context *ctx, espl_graph *g, vectors *v, const espl_shape *shapes,
                               espl_tensor *outputs, espl_diag *diag) {
    espl_session *s = NULL;
    espl_tensor got[MAX_TENSORS] = {0};
    espl_session_options options = {.input_shapes = shapes};
    for (int i = 0; i < g->node_count; i++) g->nodes[i]->mark = 0;
    espl_status status = espl_session_create(ctx, g, &options, &s, diag);
    for (int i = 0; i < g->output_count && status == ESPL_OK; i++) {
        const espl_tensor *info = espl_session_output_info(s, i);
        if (i < v->output_count) restore_bf16(&v->outputs[i], info->dtype);
        if (info->shape.rank >= 0 && espl_shape_count(&info->shape) >= 0)
            status = espl_tensor_alloc(ctx, info->dtype, &info->shape, &outputs[i], diag);
        got[i] = outputs[i];
    }
    if (status == ESPL_OK) status = espl_session_run(s, v->inputs, got, diag);
    for (int i = 0; i < g->output_count && status == ESPL_OK; i++) {
        if (outputs[i].data && got[i].dtype != ESPL_STRING) continue;
        void *elements = outputs[i].data; /* of strings, whose text is the session's */
        status = espl__tensor_copy(ctx, &got[i], &outputs[i], diag);
        espl__free(ctx, elements);
    }
    espl_session_destroy(&s);
    return status;
}

static espl_status run_graph(espl_context *ctx, espl_graph *g, vectors *v, bool bind, espl_tensor *outputs,
                             espl_diag *diag) {
    espl_shape shapes[MAX_TENSORS];
    for (int i = 0; i < v->input_count && !v->lists; i++) {
        shapes[i] = v->inputs[i].shape;
        if (i < g->input_count) restore_bf16(&v->inputs[i], g->inputs[i]->dtype);
        if (i < g->input_count && g->inputs[i]->dtype != v->inputs[i].dtype)
            return espl__fail(diag, ESPL_SHAPE, "input %d has another type than the model says", i);
    }
    if (v->lists && !bind)
        return espl__fail(diag, ESPL_UNSUPPORTED, "sequences go in as constants only");
    if (bind && !bind_inputs(g, v)) return espl__nomem(diag, 0);
    if (v->lists && !open_outputs(ctx, g, v)) return espl__nomem(diag, 0);
    espl_status status = through_passes ? espl__passes_run(g, diag) : ESPL_OK;
    if (through_session && !bind && status == ESPL_OK) return run_session(ctx, g, v, shapes, outputs, diag);
    for (int i = 0; i < g->value_count && status == ESPL_OK; i++)
        if (espl__is_quantized(g->values[i]))
            return espl__fail(diag, ESPL_UNSUPPORTED, "quantized values are not evaluated in f32");
    if (status == ESPL_OK) status = espl__specialise_open(g, shapes, diag);
    for (int i = 0; i < g->output_count && i < v->output_count; i++)
        restore_bf16(&v->outputs[i], g->outputs[i]->dtype);
    if (status == ESPL_OK && espl__late_mark(g) > 0) return run_session(ctx, g, v, shapes, outputs, diag);
    return status == ESPL_OK ? espl__evaluate(ctx, g, v->inputs, outputs, diag) : status;
}

static result judge(const espl_graph *g, const espl_tensor *outputs, const vectors *v, bool drawn, char *reason,
                    size_t size) {
    char text[256];
    for (int i = 0; i < g->output_count && i < v->output_count; i++) {
        if (!compare(&outputs[i], &v->outputs[i], drawn, text, sizeof text)) continue;
        snprintf(reason, size, "output %d: %s", i, text);
        return FAIL;
    }
    return PASS;
}

/* With inputs that stay inputs first, then with bound ones. `op` receives the name of the model's first
 * operator. */
static result attempt(espl_context *ctx, const char *model, const char *set, bool bind, char *op, char *reason,
                      size_t size) {
    espl_graph *g = NULL;
    vectors v = {0};
    espl_diag diag = {0};
    espl_tensor outputs[MAX_TENSORS] = {0};
    result r = SKIP;
    if (espl_onnx_read(ctx, model, &g, &diag) != ESPL_OK) goto done;
    if (g->node_count) snprintf(op, NAME_SIZE, "%s", g->nodes[0]->op->name);
    if (read_all(ctx, set, "input", g->inputs, g->input_count, v.inputs, &v.input_count, v.given, &v.lists, &diag) != ESPL_OK ||
        read_all(ctx, set, "output", g->outputs, g->output_count, v.outputs, &v.output_count, v.wanted, &v.lists, &diag) !=
            ESPL_OK)
        goto done;
    if (run_graph(ctx, g, &v, bind, outputs, &diag) != ESPL_OK) goto done;
    r = judge(g, outputs, &v, is_drawn(model), reason, size);
done:
    for (int i = 0; i < MAX_TENSORS; i++) espl_tensor_free(ctx, &outputs[i]);
    if (r == SKIP) snprintf(reason, size, "%s", diag.message);
    espl_graph_destroy(&g);
    free_vectors(ctx, &v);
    return r;
}

static result run_test(espl_context *ctx, const char *folder, char *op, char *reason, size_t size) {
    char model[PATH_SIZE], set[PATH_SIZE], name[32];
    result worst = PASS;
    join(model, sizeof model, folder, "model.onnx");
    snprintf(op, NAME_SIZE, "(not read)");
    for (int i = 0; worst == PASS; i++) {
        snprintf(name, sizeof name, "test_data_set_%d", i);
        if (access(join(set, sizeof set, folder, name), R_OK) != 0) return i ? worst : SKIP;
        worst = attempt(ctx, model, set, false, op, reason, size);
        if (worst == SKIP) worst = attempt(ctx, model, set, true, op, reason, size);
    }
    return worst;
}

/* --- all tests ------------------------------------------------------------------------------- */

typedef struct row {
    char name[NAME_SIZE], op[NAME_SIZE], reason[1024];
    result result;
} row;

typedef struct suite {
    row *rows;
    int count;
} suite;

static int by_name(const void *a, const void *b) {
    return strcmp(((const row *)a)->name, ((const row *)b)->name);
}

static bool list_folder(const char *data, suite *s) {
    DIR *dir = opendir(data);
    if (!dir) return false;
    for (struct dirent *e; (e = readdir(dir));) {
        char folder[PATH_SIZE], model[PATH_SIZE];
        join(folder, sizeof folder, data, e->d_name);
        if (access(join(model, sizeof model, folder, "model.onnx"), R_OK) != 0) continue;
        row *more = realloc(s->rows, sizeof *more * (size_t)(s->count + 1));
        if (!more) break;
        s->rows = more;
        s->rows[s->count] = (row){0};
        snprintf(s->rows[s->count++].name, NAME_SIZE, "%.*s", NAME_SIZE - 1, e->d_name);
    }
    closedir(dir);
    if (s->count) qsort(s->rows, (size_t)s->count, sizeof *s->rows, by_name);
    return s->count > 0;
}

static const row *find(const suite *s, const char *name) {
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->rows[i].name, name) == 0) return &s->rows[i];
    return NULL;
}

/* One line an operator: how many pass, fail and are skipped. */
static void print_operators(const suite *s) {
    for (int i = 0; i < s->count; i++) {
        int n[3] = {0}, first = i;
        for (int k = 0; k < s->count; k++) {
            if (strcmp(s->rows[k].op, s->rows[i].op) != 0) continue;
            n[s->rows[k].result]++;
            first = ESPL_MIN(first, k);
        }
        if (first == i)
            printf("%-24s %4d pass %4d fail %4d skip\n", s->rows[i].op, n[PASS], n[FAIL], n[SKIP]);
    }
}

/* Lines of names; '#' begins a comment. Returns how many of them do not pass. Releases of the vectors differ: one that is
 * not there, or has moved to an operator set we do not read, is no mistake as long as most are as expected. */
static int check_expected(const suite *s, const char *path) {
    char line[NAME_SIZE];
    int wrong = 0, passed = 0, elsewhere = 0;
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("%s: cannot be read\n", path);
        return 1;
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "#\r\n")] = 0;
        if (!line[0]) continue;
        const row *r = find(s, line);
        if (r && r->result == PASS) {
            passed++;
        } else if (!r || strstr(r->reason, "1 to 21 are supported")) {
            elsewhere++;
        } else {
            printf("%s: expected to pass: %s\n", line, r->reason);
            wrong++;
        }
    }
    fclose(file);
    printf("%d of the expected pass, %d do not, %d are not in this release of the vectors\n", passed, wrong, elsewhere);
    return passed > 3 * elsewhere ? wrong : wrong + elsewhere;
}

static void run_suite(espl_context *ctx, const char *data, suite *s, bool verbose) {
    char folder[PATH_SIZE];
    for (int i = 0; i < s->count; i++) {
        row *r = &s->rows[i];
        join(folder, sizeof folder, data, r->name);
        r->result = run_test(ctx, folder, r->op, r->reason, sizeof r->reason);
        if (verbose || r->result == FAIL)
            printf("%s %s %s\n", result_names[r->result], r->name, r->result ? r->reason : "");
    }
}

static const char *in_assets(const char *folder, char *buf, size_t size) {
    const char *root = getenv("ESPL_ASSETS");
    return join(buf, size, root ? root : "../shared", folder);
}

int main(int argc, char **argv) {
    const char *data = "/usr/share/libonnx-testdata/data/node", *expected = NULL;
    char assets[PATH_SIZE];
    bool names = false, verbose = false, all = false;
    suite s = {0};
    espl_context *ctx = NULL;
    espl_diag diag = {0};
    int total[3] = {0}, wrong = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--data") == 0 && i + 1 < argc)
            data = argv[++i];
        else if (strcmp(argv[i], "--assets") == 0 && i + 1 < argc)
            data = in_assets(argv[++i], assets, sizeof assets);
        else if (strcmp(argv[i], "--expected") == 0 && i + 1 < argc)
            expected = argv[++i];
        else if (strcmp(argv[i], "--all") == 0)
            all = true;
        else if (strcmp(argv[i], "--passes") == 0)
            through_passes = true;
        else if (strcmp(argv[i], "--session") == 0)
            through_passes = through_session = true;
        else if (strcmp(argv[i], "--names") == 0)
            names = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else {
            row *more = realloc(s.rows, sizeof *more * (size_t)(s.count + 1));
            if (!more) return 3;
            s.rows = more;
            s.rows[s.count] = (row){0};
            snprintf(s.rows[s.count++].name, NAME_SIZE, "%s", argv[i]);
        }
    }
    if (!s.count && !list_folder(data, &s)) {
        printf("skipped: no %s in %s\n", data == assets ? "assets" : "vectors (Debian: libonnx-testdata)",
               data);
        return 77;
    }
    if (espl_context_create(NULL, &ctx, &diag) != ESPL_OK) {
        printf("%s\n", diag.message);
        return 3;
    }
    uint64_t before = espl_context_memory(ctx, NULL);
    run_suite(ctx, data, &s, verbose && !names);
    for (int i = 0; i < s.count; i++) {
        total[s.rows[i].result]++;
        if (names && s.rows[i].result == PASS) printf("%s\n", s.rows[i].name);
    }
    if (!names) {
        print_operators(&s);
        printf("%d pass, %d fail, %d skip\n", total[PASS], total[FAIL], total[SKIP]);
    }
    if (expected) wrong = check_expected(&s, expected);
    uint64_t left = espl_context_memory(ctx, NULL) - before;
    if (left) printf("%llu bytes were not freed\n", (unsigned long long)left);
    espl_context_destroy(&ctx);
    free(s.rows);
    return total[FAIL] || (all && total[SKIP]) || wrong || left;
}
