#define _GNU_SOURCE
#include "train/onednn.h"

#ifndef ESPL_ONEDNN
bool espl__onednn_open(espl__dense *table) {
    (void)table;
    return false;
}
#else

#include "base/refused.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <oneapi/dnnl/dnnl.h>

/* --- memory ----------------------------------------------------------------------------------------
 *
 * oneDNN is C++. Where operator new finds no memory it throws, through our C, which ends the process; up to
 * version 2 other parts of it write to where nothing is. So some of the address space, which nobody has ever
 * written to, is held back: operator new's handler gives it up, so that the call comes to its end, and
 * whatever is made next needs it whole again, with as much beside it. Then oneDNN meets a lack of memory only
 * if one primitive takes more than that. */

enum { RESERVE = 32 << 20 };

static _Atomic(void *) reserve;
static atomic_bool lacking;        /* a call said so */
static _Thread_local int inside;   /* calls of oneDNN on this thread */
static void (*next_handler)(void); /* of the program around us */
static void (*throw_bad_alloc)(void);

static bool hold_reserve(void) {
    if (atomic_load(&reserve)) return true;
    void *fresh = mmap(NULL, RESERVE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
         *none = NULL;
    if (fresh == MAP_FAILED) return false;
    if (!atomic_compare_exchange_strong(&reserve, &none, fresh)) munmap(fresh, RESERVE);
    return true;
}

static bool give_reserve(void) {
    void *r = atomic_exchange(&reserve, NULL);
    if (r) munmap(r, RESERVE);
    return r != NULL;
}

/* There is memory enough to make something. */
static bool has_memory(void) {
    if (!hold_reserve()) return false;
    void *p = mmap(NULL, RESERVE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    munmap(p, RESERVE);
    return true;
}

/* Returning makes operator new try again. */
static void on_lack(void) {
    if (inside && give_reserve()) return;
    if (next_handler)
        next_handler();
    else
        throw_bad_alloc();
}

/* std::set_new_handler and std::__throw_bad_alloc of the library that oneDNN uses, if it is one that has
 * them. */
static void set_handler(void *self) {
    void (*(*set)(void (*)(void)))(void);
    void *found = dlsym(self, "_ZSt15set_new_handlerPFvvE"),
         *thrower = dlsym(self, "_ZSt17__throw_bad_allocv");
    if (!found || !thrower) return;
    memcpy(&set, &found, sizeof set);
    memcpy(&throw_bad_alloc, &thrower, sizeof thrower);
    next_handler = set(on_lack);
}

static bool good(dnnl_status_t status) {
    if (status == dnnl_out_of_memory) atomic_store(&lacking, true);
    return status == dnnl_success;
}

/* --- one thread ------------------------------------------------------------------------------------
 *
 * Threads are ours: each calls oneDNN for its share of the images. A build with OpenMP would start a team of
 * its own for each call; with the calling thread's number of threads at 1 it starts none, neither when a
 * primitive is made nor when it runs. The number is the thread's own and is set back, so that a program with
 * OpenMP of its own notices nothing. */

static int (*get_threads)(void);
static void (*set_threads)(int);
static dnnl_engine_t engine;

static int alone(void) {
    int before = get_threads ? get_threads() : 1;
    inside++;
    if (before != 1) set_threads(1);
    return before;
}
static void again(int before) {
    if (--inside == 0) (void)hold_reserve();
    if (before != 1) set_threads(before);
}

/* The symbols are oneDNN's own OpenMP library's, whichever that is. */
static void find_openmp(void *self) {
    void *get = dlsym(self, "omp_get_max_threads"), *set = dlsym(self, "omp_set_num_threads");
    if (!get || !set) return;
    memcpy(&get_threads, &get, sizeof get);
    memcpy(&set_threads, &set, sizeof set);
}

/* --- what differs between versions 2 and 3 ----------------------------------------------------------- */

typedef struct conv_dims {
    dnnl_dims_t stride, dilation, begin, end;
} conv_dims;

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t view;

static bool describe(dnnl_memory_desc_t *out, int rank, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    return good(dnnl_memory_desc_create_with_tag(out, rank, dims, dnnl_f32, tag));
}
static void forget(dnnl_memory_desc_t *d) {
    if (*d) dnnl_memory_desc_destroy(*d);
}
static view look(const dnnl_memory_desc_t *d) {
    return *d;
}
static bool describe_forward(dnnl_primitive_desc_t *out, view x, view w, view bias, view y,
                             const conv_dims *g, dnnl_primitive_attr_t attr) {
    return good(dnnl_convolution_forward_primitive_desc_create(
        out, engine, dnnl_forward_training, dnnl_convolution_direct, x, w, bias, y, g->stride, g->dilation,
        g->begin, g->end, attr));
}
static bool describe_data(dnnl_primitive_desc_t *out, view x, view w, view y, const conv_dims *g,
                          const_dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attr) {
    return good(dnnl_convolution_backward_data_primitive_desc_create(
        out, engine, dnnl_convolution_direct, x, w, y, g->stride, g->dilation, g->begin, g->end, hint, attr));
}
static bool describe_weights(dnnl_primitive_desc_t *out, view x, view w, view y, const conv_dims *g,
                             const_dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attr) {
    return good(dnnl_convolution_backward_weights_primitive_desc_create(out, engine, dnnl_convolution_direct,
                                                                        x, w, NULL, y, g->stride, g->dilation,
                                                                        g->begin, g->end, hint, attr));
}
#else
typedef const dnnl_memory_desc_t *view;

static bool describe(dnnl_memory_desc_t *out, int rank, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    return good(dnnl_memory_desc_init_by_tag(out, rank, dims, dnnl_f32, tag));
}
static void forget(dnnl_memory_desc_t *d) {
    (void)d;
}
static view look(const dnnl_memory_desc_t *d) {
    return d;
}
static bool describe_forward(dnnl_primitive_desc_t *out, view x, view w, view bias, view y,
                             const conv_dims *g, dnnl_primitive_attr_t attr) {
    dnnl_convolution_desc_t d;
    return good(dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, dnnl_convolution_direct,
                                                           x, w, bias, y, g->stride, g->dilation, g->begin,
                                                           g->end)) &&
           good(dnnl_primitive_desc_create(out, &d, attr, engine, NULL));
}
static bool describe_data(dnnl_primitive_desc_t *out, view x, view w, view y, const conv_dims *g,
                          const_dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attr) {
    dnnl_convolution_desc_t d;
    return good(dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, x, w, y,
                                                                 g->stride, g->dilation, g->begin, g->end)) &&
           good(dnnl_primitive_desc_create(out, &d, attr, engine, hint));
}
static bool describe_weights(dnnl_primitive_desc_t *out, view x, view w, view y, const conv_dims *g,
                             const_dnnl_primitive_desc_t hint, dnnl_primitive_attr_t attr) {
    dnnl_convolution_desc_t d;
    return good(dnnl_dilated_convolution_backward_weights_desc_init(
               &d, dnnl_convolution_direct, x, w, NULL, y, g->stride, g->dilation, g->begin, g->end)) &&
           good(dnnl_primitive_desc_create(out, &d, attr, engine, hint));
}
#endif

/* --- a primitive and, for each thread, the memories it works on ---------------------------------------- */

enum { MAX_ARGS = 5 };

typedef struct primitive {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t made;
    int64_t images; /* at a time */
    uint64_t scratch;
    int args, runs;
    dnnl_exec_arg_t *arg; /* [runs][args]; the last is the scratchpad */
} primitive;

static view view_of(const primitive *p, int arg) {
    return dnnl_primitive_desc_query_md(p->desc, dnnl_query_exec_arg_md, arg);
}

static uint64_t padded(uint64_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static bool finish(espl_context *ctx, primitive *p, int runs, int args, const int *names) {
    if (!good(dnnl_primitive_create(&p->made, p->desc))) return false;
    p->args = args + 1;
    p->runs = runs;
    p->scratch = padded(dnnl_memory_desc_get_size(view_of(p, DNNL_ARG_SCRATCHPAD)));
    p->arg = espl__calloc(ctx, (uint64_t)runs * (uint64_t)p->args, sizeof *p->arg);
    for (int i = 0; p->arg && i < runs * p->args; i++) {
        int k = i % p->args;
        p->arg[i].arg = k == args ? DNNL_ARG_SCRATCHPAD : names[k];
        if (!good(dnnl_memory_create(&p->arg[i].memory, view_of(p, p->arg[i].arg), engine, DNNL_MEMORY_NONE)))
            return false;
    }
    return p->arg != NULL;
}

static void drop(espl_context *ctx, primitive *p) {
    for (int i = 0; p->arg && i < p->runs * p->args; i++)
        if (p->arg[i].memory) dnnl_memory_destroy(p->arg[i].memory);
    espl__free(ctx, p->arg);
    if (p->made) dnnl_primitive_destroy(p->made);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
}

/* oneDNN's kernels take the stack pointer for data: a signal handler that runs meanwhile writes its frame
 * somewhere in the heap (seen with 2.6, a matrix product and SIGTERM). So while they run a thread takes no
 * signals but those of its own faults; the others wait. */
static void hold_signals(sigset_t *before) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < ESPL_COUNT(own); i++) sigdelset(&all, own[i]);
    pthread_sigmask(SIG_BLOCK, &all, before);
}

static void let_signals(const sigset_t *before) {
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* data: of the arguments in order, then the scratchpad. */
static void execute(const primitive *p, dnnl_stream_t stream, int64_t run, const void *const *data) {
    dnnl_exec_arg_t *arg = p->arg + run * p->args;
    for (int i = 0; i < p->args; i++) {
        void *to;
        memcpy(&to, &data[i], sizeof to); /* inputs are const to us, not to oneDNN's arguments */
        dnnl_memory_set_data_handle(arg[i].memory, to);
    }
    sigset_t before;
    hold_signals(&before);
    bool done = good(dnnl_primitive_execute(p->made, stream, p->args, arg)) && good(dnnl_stream_wait(stream));
    let_signals(&before);
    if (!done) espl__dense_fail();
}

/* --- convolution ---------------------------------------------------------------------------------------- */

/* For runs of one number of images. */
typedef struct share {
    int64_t images;
    primitive forward, data, weights;
} share;

typedef struct conv {
    espl__conv_f32 head;
    espl_context *ctx;
    espl__conv_shape s;
    int rank, runs;
    share shares[2]; /* runs differ by one image at most */
    dnnl_stream_t *streams;
    dnnl_memory_desc_t plain; /* weights as the graph has them */
    primitive to_forward, to_data, from_weights;
    uint64_t forward_weights, data_weights, weight_sums, weight_bytes; /* bytes in oneDNN's layouts */
    uint64_t scratch;                                                  /* of one run */
    uint64_t chunk;                                                    /* bytes of dx that is added */
} conv;

/* Of the pool's threads; a share of the images each. */
static int64_t run_begin(const conv *k, int64_t run) {
    return run * k->s.images / k->runs;
}

static void spatial(const conv *k, const int64_t *from, int64_t less, dnnl_dim_t *to) {
    for (int i = 0; i < k->rank; i++) to[i] = from[ESPL__MAX_SPATIAL - k->rank + i] - less;
}

static bool value_desc(const conv *k, int64_t images, int64_t channels, const int64_t *size,
                       dnnl_memory_desc_t *out) {
    dnnl_dims_t dims = {images, channels};
    spatial(k, size, 0, dims + 2);
    return describe(out, 2 + k->rank, dims, k->rank == 2 ? dnnl_nhwc : dnnl_ndhwc);
}

static bool weight_desc(const conv *k, bool any, dnnl_memory_desc_t *out) {
    const espl__conv_shape *s = &k->s;
    bool grouped = s->groups > 1;
    dnnl_dims_t dims = {s->groups, s->outputs / s->groups, s->channels / s->groups};
    if (!grouped) memmove(dims, dims + 1, 2 * sizeof *dims);
    spatial(k, s->w.kernel, 0, dims + 2 + grouped);
    int rank = 2 + grouped + k->rank;
    dnnl_format_tag_t tag = rank == 4 ? dnnl_abcd : rank == 5 ? dnnl_abcde : dnnl_abcdef;
    return describe(out, rank, dims, any ? dnnl_format_tag_any : tag);
}

/* The largest divisor of a share whose part of dx stays in the cache until it is added; while that is less
 * than the weights, reading those would cost more. */
static int64_t chunk_images(const conv *k, int64_t images) {
    const espl__window *w = &k->s.w;
    int64_t image = w->in[0] * w->in[1] * w->in[2] * k->s.channels * (int64_t)sizeof(float);
    int64_t most = ESPL_MAX(1, ESPL_MAX(1 << 18, (int64_t)k->weight_bytes / 4) / ESPL_MAX(1, image));
    int64_t n = ESPL_MIN(images, most);
    while (images % n) n--;
    return n;
}

static bool make_primitives(conv *k, share *s, const conv_dims *g, dnnl_primitive_attr_t attr) {
    static const int forward_args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
    static const int data_args[] = {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC};
    static const int weight_args[] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS};
    const espl__window *w = &k->s.w;
    dnnl_memory_desc_t x = {0}, y = {0}, part_x = {0}, part_y = {0}, any = {0}, bias = {0};
    dnnl_dims_t outputs = {k->s.outputs};
    dnnl_primitive_desc_t hint = NULL;
    s->forward.images = s->weights.images = s->images;
    s->data.images = chunk_images(k, s->images);
    bool ok = value_desc(k, s->images, k->s.channels, w->in, &x) &&
              value_desc(k, s->images, k->s.outputs, w->out, &y) &&
              value_desc(k, s->data.images, k->s.channels, w->in, &part_x) &&
              value_desc(k, s->data.images, k->s.outputs, w->out, &part_y) && weight_desc(k, true, &any) &&
              describe(&bias, 1, outputs, dnnl_a) &&
              describe_forward(&s->forward.desc, look(&x), look(&any), k->s.bias ? look(&bias) : NULL,
                               look(&y), g, attr) &&
              finish(k->ctx, &s->forward, k->runs, 3 + k->s.bias, forward_args);
    if (ok && k->s.dw)
        ok = describe_weights(&s->weights.desc, look(&x), look(&any), look(&y), g, s->forward.desc, attr) &&
             finish(k->ctx, &s->weights, k->runs, 3, weight_args);
    if (ok && k->s.dx)
        ok = describe_forward(&hint, look(&part_x), look(&any), NULL, look(&part_y), g, attr) &&
             describe_data(&s->data.desc, look(&part_x), look(&any), look(&part_y), g, hint, attr) &&
             finish(k->ctx, &s->data, k->runs, 3, data_args);
    if (hint) dnnl_primitive_desc_destroy(hint);
    dnnl_memory_desc_t *all[] = {&x, &y, &part_x, &part_y, &any, &bias};
    for (size_t i = 0; i < ESPL_COUNT(all); i++) forget(all[i]);
    return ok;
}

/* Between the graph's weights and those of a primitive. Shares of both sizes must want the same ones. */
static bool make_reorder(conv *k, primitive *p, const primitive *of, const primitive *other, int arg,
                         bool from_graph, uint64_t *bytes, dnnl_primitive_attr_t attr) {
    static const int args[] = {DNNL_ARG_FROM, DNNL_ARG_TO};
    view packed = view_of(of, arg), plain = look(&k->plain);
    if (other->made && !dnnl_memory_desc_equal(packed, view_of(other, arg))) return false;
    *bytes = padded(dnnl_memory_desc_get_size(packed));
    return good(dnnl_reorder_primitive_desc_create(&p->desc, from_graph ? plain : packed, engine,
                                                   from_graph ? packed : plain, engine, attr)) &&
           finish(k->ctx, p, 1, 2, args);
}

static bool make_reorders(conv *k, dnnl_primitive_attr_t attr) {
    share *s = k->shares;
    return make_reorder(k, &k->to_forward, &s[0].forward, &s[1].forward, DNNL_ARG_WEIGHTS, true,
                        &k->forward_weights, attr) &&
           (!k->s.dx || make_reorder(k, &k->to_data, &s[0].data, &s[1].data, DNNL_ARG_WEIGHTS, true,
                                     &k->data_weights, attr)) &&
           (!k->s.dw || make_reorder(k, &k->from_weights, &s[0].weights, &s[1].weights, DNNL_ARG_DIFF_WEIGHTS,
                                     false, &k->weight_sums, attr));
}

/* scratch: packed weights, then each run's; in backward then the runs' dx to be added, their dW, and dW as
 * the graph has it. */
static void plan_scratch(conv *k) {
    const espl__window *w = &k->s.w;
    k->scratch = ESPL_MAX(ESPL_MAX(k->to_forward.scratch, k->to_data.scratch), k->from_weights.scratch);
    uint64_t image = (uint64_t)(w->in[0] * w->in[1] * w->in[2] * k->s.channels) * sizeof(float);
    for (int i = 0; i < 2; i++) {
        const share *s = &k->shares[i];
        uint64_t most = ESPL_MAX(s->forward.scratch, ESPL_MAX(s->data.scratch, s->weights.scratch));
        k->scratch = ESPL_MAX(k->scratch, most);
        k->chunk = ESPL_MAX(k->chunk, padded((uint64_t)s->data.images * image));
    }
    uint64_t runs = (uint64_t)k->runs;
    k->head.forward_bytes = k->forward_weights + runs * k->scratch;
    k->head.backward_bytes =
        k->data_weights + runs * (k->scratch + k->chunk + k->weight_sums) + padded(k->weight_bytes);
}

typedef struct job {
    conv *k;
    char *scratch;
    const float *x, *w, *bias, *dy;
    float *y, *dx, *dw;
    bool add_dx, add_dw;
} job;

static const share *share_of(const conv *k, int64_t run) {
    int64_t images = run_begin(k, run + 1) - run_begin(k, run);
    return &k->shares[images != k->shares[0].images];
}
static int64_t input_size(const conv *k) {
    return k->s.w.in[0] * k->s.w.in[1] * k->s.w.in[2] * k->s.channels;
}
static int64_t output_size(const conv *k) {
    return k->s.w.out[0] * k->s.w.out[1] * k->s.w.out[2] * k->s.outputs;
}

static void forward_run(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const conv *k = j->k;
    int before = alone();
    for (int64_t run = begin; run < end; run++) {
        const float *x = j->x + run_begin(k, run) * input_size(k);
        float *y = j->y + run_begin(k, run) * output_size(k);
        const void *scratch = j->scratch + k->forward_weights + (uint64_t)run * k->scratch;
        const void *data[] = {x, j->scratch, y, k->s.bias ? (const void *)j->bias : scratch, scratch};
        execute(&share_of(k, run)->forward, k->streams[run], run, data);
    }
    again(before);
}

static void reorder(const conv *k, const primitive *p, const void *from, const void *to,
                    const void *scratch) {
    int before = alone();
    const void *data[] = {from, to, scratch};
    execute(p, k->streams[0], 0, data);
    again(before);
}

static void forward(espl__conv_f32 *head, espl__pool *pool, void *scratch, const float *x, const float *w,
                    const float *bias, float *y) {
    conv *k = (conv *)head;
    job j = {.k = k, .scratch = scratch, .x = x, .bias = bias, .y = y};
    reorder(k, &k->to_forward, w, scratch, j.scratch + k->forward_weights);
    espl__parallel_for(pool, k->runs, forward_run, &j);
}

static void data_run(const job *j, int64_t run, const void *scratch) {
    const conv *k = j->k;
    const primitive *p = &share_of(k, run)->data;
    float *part =
        (float *)(j->scratch + k->data_weights + (uint64_t)k->runs * k->scratch + (uint64_t)run * k->chunk);
    for (int64_t n = run_begin(k, run); n < run_begin(k, run + 1); n += p->images) {
        float *dx = j->dx + n * input_size(k);
        const void *data[] = {j->dy + n * output_size(k), j->scratch, j->add_dx ? part : dx, scratch};
        execute(p, k->streams[run], run, data);
        for (int64_t i = 0; j->add_dx && i < p->images * input_size(k); i++) dx[i] += part[i];
    }
}

static float *weight_sum(const job *j, int64_t run) {
    const conv *k = j->k;
    return (float *)(j->scratch + k->data_weights + (uint64_t)k->runs * (k->scratch + k->chunk) +
                     (uint64_t)run * k->weight_sums);
}

static void backward_run(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const conv *k = j->k;
    int before = alone();
    for (int64_t run = begin; run < end; run++) {
        const void *scratch = j->scratch + k->data_weights + (uint64_t)run * k->scratch;
        if (j->dw) {
            const float *x = j->x + run_begin(k, run) * input_size(k);
            const void *data[] = {x, j->dy + run_begin(k, run) * output_size(k), weight_sum(j, run), scratch};
            execute(&share_of(k, run)->weights, k->streams[run], run, data);
        }
        if (j->dx) data_run(j, run, scratch);
    }
    again(before);
}

/* The runs' dW, added up in order. */
static void sum_weights(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    float *sum = weight_sum(j, 0);
    for (int64_t run = 1; run < j->k->runs; run++) {
        const float *term = weight_sum(j, run);
        for (int64_t i = begin; i < end; i++) sum[i] += term[i];
    }
}

static void backward(espl__conv_f32 *head, espl__pool *pool, void *scratch, const float *x, const float *w,
                     const float *dy, float *dx, bool add_dx, float *dw, bool add_dw) {
    conv *k = (conv *)head;
    job j = {k, scratch, x, w, NULL, dy, NULL, dx, dw, add_dx, add_dw};
    char *common = j.scratch + k->data_weights;
    if (dx) reorder(k, &k->to_data, w, scratch, common);
    espl__parallel_for(pool, k->runs, backward_run, &j);
    if (!dw) return;
    espl__parallel_for(pool, (int64_t)(k->weight_sums / sizeof(float)), sum_weights, &j);
    float *plain = add_dw ? weight_sum(&j, k->runs) : dw;
    reorder(k, &k->from_weights, weight_sum(&j, 0), plain, common);
    for (size_t i = 0; add_dw && i < k->weight_bytes / sizeof(float); i++) dw[i] += plain[i];
}

static void release(espl__conv_f32 *head) {
    conv *k = (conv *)head;
    primitive *all[] = {&k->to_forward,        &k->to_data,        &k->from_weights,
                        &k->shares[0].forward, &k->shares[0].data, &k->shares[0].weights,
                        &k->shares[1].forward, &k->shares[1].data, &k->shares[1].weights};
    for (size_t i = 0; i < ESPL_COUNT(all); i++) drop(k->ctx, all[i]);
    for (int i = 0; k->streams && i < k->runs; i++)
        if (k->streams[i]) dnnl_stream_destroy(k->streams[i]);
    espl__free(k->ctx, k->streams);
    forget(&k->plain);
    espl__free(k->ctx, k);
}

static bool build(conv *k) {
    const espl__window *w = &k->s.w;
    k->rank = w->in[0] == 1 && w->kernel[0] == 1 ? 2 : 3;
    k->weight_bytes = (uint64_t)(k->s.outputs * (k->s.channels / k->s.groups) * w->kernel[0] * w->kernel[1] *
                                 w->kernel[2]) *
                      sizeof(float);
    conv_dims g;
    spatial(k, w->stride, 0, g.stride);
    spatial(k, w->dilation, 1, g.dilation);
    spatial(k, w->begin, 0, g.begin);
    spatial(k, w->end, 0, g.end);
    k->shares[0].images = k->s.images / k->runs;
    k->shares[1].images = k->s.images % k->runs ? k->shares[0].images + 1 : 0;
    k->streams = espl__calloc(k->ctx, (uint64_t)k->runs, sizeof(dnnl_stream_t));
    for (int i = 0; k->streams && i < k->runs; i++)
        if (!good(dnnl_stream_create(&k->streams[i], engine, dnnl_stream_default_flags))) return false;
    dnnl_primitive_attr_t attr = NULL;
    bool ok = k->streams && good(dnnl_primitive_attr_create(&attr)) &&
              good(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user)) &&
              weight_desc(k, false, &k->plain);
    for (int i = 0; ok && i < 2; i++)
        if (k->shares[i].images) ok = make_primitives(k, &k->shares[i], &g, attr);
    ok = ok && make_reorders(k, attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (ok) plan_scratch(k);
    return ok;
}

static espl__conv_f32 *conv_f32(espl_context *ctx, const espl__conv_shape *shape) {
    conv *k = espl__calloc(ctx, 1, sizeof *k);
    if (!k) return NULL;
    k->head = (espl__conv_f32){0, 0, forward, backward, release};
    k->ctx = ctx;
    k->s = *shape;
    k->runs = (int)ESPL_MAX(1, ESPL_MIN(shape->images, espl__pool_threads(espl__context_pool(ctx))));
    atomic_store(&lacking, false);
    bool rich = has_memory();
    int before = alone();
    bool ok = rich && shape->images > 0 && build(k);
    again(before);
    /* Only what cannot be done may be done by others, in other bits. */
    if (!rich || atomic_load(&lacking) || !hold_reserve()) {
        espl__refuse(ctx);
        ok = false;
    }
    if (ok) return &k->head;
    release(&k->head);
    return NULL;
}

static void gemm_f32(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                     const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    int before = alone();
    sigset_t signals;
    hold_signals(&signals);
    bool done = good(dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1, a, lda, b, ldb, beta, c, ldc));
    let_signals(&signals);
    again(before);
    if (!done) espl__dense_fail();
}

bool espl__onednn_open(espl__dense *table) {
    if (dnnl_version()->major != DNNL_VERSION_MAJOR) return false;
    void *self = dlopen(NULL, RTLD_NOW);
    if (self) {
        find_openmp(self);
        set_handler(self);
    }
    (void)hold_reserve();
    if (!engine && !good(dnnl_engine_create(&engine, dnnl_cpu, 0))) return false;
    table->name = "onednn";
    table->gemm_f32 = gemm_f32;
    table->conv_f32 = conv_f32;
    return true;
}
#endif
