/* One convolution in oneDNN 2.x, in the layouts that it likes best: weights reordered beforehand, activations
 * blocked as its kernel asks. onednn.py makes a shared library of this file. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <time.h>

/* Square; the padding is symmetric. With integers: u8 activations without zero points, s8 weights, a scale
 * for each output channel that goes from sums to codes; else f32. ReLU behind either. */
typedef struct conv {
    int channels, out_channels, size, out_size, kernel, stride, pad, groups, integers;
} conv;

enum { SRC, WEIGHTS, BIAS, DST, ARGUMENTS };
static const int names[ARGUMENTS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST};

typedef struct peer {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t plain[ARGUMENTS];
    dnnl_memory_t memory[ARGUMENTS];
    dnnl_exec_arg_t arguments[ARGUMENTS];
} peer;

#define TRY(call) \
    if ((call) != dnnl_success) return 0

/* The shapes with rows in C order, and in *any the same with the layout left open. */
static int describe(peer *p, const conv *c, dnnl_memory_desc_t any[ARGUMENTS]) {
    const dnnl_dim_t in = c->channels / c->groups, out = c->out_channels / c->groups, k = c->kernel;
    const dnnl_dims_t activations[] = {{1, c->channels, c->size, c->size},
                                       {1, c->out_channels, c->out_size, c->out_size}};
    const dnnl_dims_t weights = {out, in, k, k}, grouped = {c->groups, out, in, k, k},
                      bias = {c->out_channels};
    const dnnl_data_type_t act = c->integers ? dnnl_u8 : dnnl_f32, code = c->integers ? dnnl_s8 : dnnl_f32;
    const int group = c->groups > 1;
    TRY(dnnl_memory_desc_init_by_tag(&p->plain[SRC], 4, activations[0], act, dnnl_nchw));
    TRY(dnnl_memory_desc_init_by_tag(&any[SRC], 4, activations[0], act, dnnl_format_tag_any));
    TRY(dnnl_memory_desc_init_by_tag(&p->plain[DST], 4, activations[1], act, dnnl_nchw));
    TRY(dnnl_memory_desc_init_by_tag(&any[DST], 4, activations[1], act, dnnl_format_tag_any));
    TRY(dnnl_memory_desc_init_by_tag(&p->plain[WEIGHTS], 4 + group, group ? grouped : weights, code,
                                     group ? dnnl_goihw : dnnl_oihw));
    TRY(dnnl_memory_desc_init_by_tag(&any[WEIGHTS], 4 + group, group ? grouped : weights, code,
                                     dnnl_format_tag_any));
    TRY(dnnl_memory_desc_init_by_tag(&p->plain[BIAS], 1, bias, c->integers ? dnnl_s32 : dnnl_f32, dnnl_x));
    any[BIAS] = p->plain[BIAS];
    return 1;
}

static int choose(peer *p, const conv *c, const float *scales) {
    dnnl_memory_desc_t any[ARGUMENTS];
    dnnl_convolution_desc_t wanted;
    dnnl_post_ops_t after;
    dnnl_primitive_attr_t attr;
    const dnnl_dims_t strides = {c->stride, c->stride}, pad = {c->pad, c->pad};
    if (!describe(p, c, any)) return 0;
    TRY(dnnl_convolution_forward_desc_init(&wanted, dnnl_forward_inference, dnnl_convolution_direct,
                                           &any[SRC], &any[WEIGHTS], &any[BIAS], &any[DST], strides, pad,
                                           pad));
    TRY(dnnl_primitive_attr_create(&attr));
    TRY(dnnl_post_ops_create(&after));
    TRY(dnnl_post_ops_append_eltwise(after, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f));
    TRY(dnnl_primitive_attr_set_post_ops(attr, after));
    if (c->integers) TRY(dnnl_primitive_attr_set_output_scales(attr, c->out_channels, 1 << 1, scales));
    TRY(dnnl_primitive_desc_create(&p->desc, &wanted, attr, p->engine, NULL));
    dnnl_post_ops_destroy(after);
    dnnl_primitive_attr_destroy(attr);
    TRY(dnnl_primitive_create(&p->primitive, p->desc));
    return 1;
}

/* Copies between the caller's plain array and the layout that the kernel has. */
static int copy(peer *p, int which, void *plain, int in) {
    dnnl_memory_t own;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t reorder;
    TRY(dnnl_memory_create(&own, &p->plain[which], p->engine, plain));
    dnnl_memory_t from = in ? own : p->memory[which], to = in ? p->memory[which] : own;
    const dnnl_memory_desc_t *from_desc, *to_desc;
    TRY(dnnl_memory_get_memory_desc(from, &from_desc));
    TRY(dnnl_memory_get_memory_desc(to, &to_desc));
    TRY(dnnl_reorder_primitive_desc_create(&desc, from_desc, p->engine, to_desc, p->engine, NULL));
    TRY(dnnl_primitive_create(&reorder, desc));
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    TRY(dnnl_primitive_execute(reorder, p->stream, 2, arguments));
    TRY(dnnl_stream_wait(p->stream));
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(own);
    return 1;
}

static int fill(peer *p, void *plain[ARGUMENTS]) {
    static const dnnl_query_t queries[ARGUMENTS] = {dnnl_query_src_md, dnnl_query_weights_md, 0,
                                                    dnnl_query_dst_md};
    for (int i = 0; i < ARGUMENTS; i++) {
        const dnnl_memory_desc_t *chosen =
            i == BIAS ? &p->plain[i] : dnnl_primitive_desc_query_md(p->desc, queries[i], 0);
        TRY(dnnl_memory_create(&p->memory[i], chosen, p->engine, DNNL_MEMORY_ALLOCATE));
        p->arguments[i] = (dnnl_exec_arg_t){names[i], p->memory[i]};
        if (i != DST && !copy(p, i, plain[i], 1)) return 0;
    }
    return 1;
}

void peer_close(peer *p) {
    for (int i = 0; i < ARGUMENTS; i++)
        if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    free(p);
}

static int open_parts(peer *p, const conv *c, void *plain[ARGUMENTS], const float *scales) {
    TRY(dnnl_engine_create(&p->engine, dnnl_cpu, 0));
    TRY(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags));
    return choose(p, c, scales) && fill(p, plain);
}

/* plain: source, weights and bias in C order. NULL if oneDNN refuses. */
peer *peer_open(const conv *c, void *plain[ARGUMENTS], const float *scales) {
    peer *p = calloc(1, sizeof *p);
    if (!p || open_parts(p, c, plain, scales)) return p;
    peer_close(p);
    return NULL;
}

/* What runs: "jit:avx512_core". */
const char *peer_kernel(const peer *p) {
    const char *name = NULL;
    return dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, (void *)&name) == dnnl_success
               ? name
               : "?";
}

/* The result of the last run, in C order. */
int peer_result(peer *p, void *plain) {
    return copy(p, DST, plain, 0);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The shortest of `runs` runs, in seconds; negative if one fails. */
double peer_run(peer *p, int runs) {
    double best = HUGE_VAL;
    for (int i = 0; i < runs; i++) {
        double begin = seconds();
        if (dnnl_primitive_execute(p->primitive, p->stream, ARGUMENTS, p->arguments) != dnnl_success ||
            dnnl_stream_wait(p->stream) != dnnl_success)
            return -1;
        best = fmin(best, seconds() - begin);
    }
    return best;
}
