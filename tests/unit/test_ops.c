/* Inference of the operators: what it says of good nodes, and what it refuses of hostile ones. */
#include "node_text.h"

/* --- what inference says ----------------------------------------------------------------------------- */

typedef struct inference {
    const char *spec;
    const char *result; /* "f32 2x3" of output 0, or "!" and a part of the sentence */
} inference;

static void check(fixture *f, const inference *row) {
    espl_diag diag = {0};
    char shape[160], got[256];
    espl__node *node = parse_node(f, row->spec);
    espl_status status = node->op->infer(node, &diag);
    if (row->result[0] == '!') {
        if (status == ESPL_OK || !strstr(diag.message, row->result + 1))
            fail_msg("%s: expected '%s', got '%s'", row->spec, row->result + 1, status ? diag.message : "success");
        assert_int_equal(diag.status, status);
        return;
    }
    if (status != ESPL_OK) fail_msg("%s: refused: %s", row->spec, diag.message);
    const espl__value *y = node->outputs[0];
    snprintf(got, sizeof got, "%s %s", espl_dtype_name(y->dtype),
             y->known_rank ? espl_shape_text(&y->shape, shape, sizeof shape) : "unranked");
    if (strcmp(got, row->result) != 0) fail_msg("%s: expected '%s', got '%s'", row->spec, row->result, got);
}

static void check_all(void **state, const inference *rows, size_t count) {
    for (size_t i = 0; i < count; i++) check(*state, &rows[i]);
}
#define CHECK(...)                                                 \
    do {                                                           \
        static const inference rows[] = {__VA_ARGS__};             \
        check_all(state, rows, ESPL_COUNT(rows));                  \
    } while (0)

static void convolutions(void **state) {
    CHECK({"Conv f32:1x3x8x8 f32:4x3x3x3", "f32 1x4x6x6"},
          {"Conv f32:?x3x8x8 f32:4x3x3x3 f32:4 | pads=[1,1,1,1] strides=[2,2]", "f32 ?x4x4x4"},
          {"Conv f32:1x3x?x8 f32:4x3x3x3", "f32 1x4x?x6"},
          {"Conv f32:1x4x9x9 f32:8x2x3x3 | group=2 dilations=[2,2]", "f32 1x8x5x5"},
          {"Conv f32:1x3x7x7 f32:4x3x3x3 | auto_pad='SAME_UPPER' strides=[2,2]", "f32 1x4x4x4"},
          {"Conv f32:1x3x7 f32:4x3x3 | auto_pad='VALID' pads=[1,1]", "f32 1x4x5"},
          {"Conv f32:unranked f32:4x3x3x3", "f32 unranked"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | kernel_shape=[5,5]", "!kernel_shape says 5 along spatial axis 0"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | strides=[0,1]", "!strides holds 0"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | strides=[1]", "!strides has 1 numbers where 2"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | pads=[-1,0,0,0]", "!padding by -1"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | dilations=[9223372036854775807,1]", "!dilations holds"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | dilations=[1073741824,1]", "!does not fit"},
          {"Conv f32:1x3x8x8 f32:4x3x9x9", "!does not fit into 8 elements"},
          {"Conv f32:1x3x8x8 f32:4x2x3x3", "!has 3 channels and the weights take 2"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | group=0", "!do not divide into 0 groups"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | group=-9223372036854775808", "!groups"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 f32:5", "!5 biases for 4"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 f32:4x1", "!has 2 dimensions where 1"},
          {"Conv f32:1x3x8x8 f32:4x3x3", "!weights have 3 dimensions"},
          {"Conv f32:1x3x8x8 f32:4x3x0x3", "!weights say 0"},
          {"Conv f32:1x3x8x8 f64:4x3x3x3", "!type f64 of input 1 is not supported"},
          {"Conv f32:1x3x8x8x8x8 f32:4x3x3x3x3x3", "!6 dimensions is not supported"},
          {"Conv f32:1x3x8x8", "!takes 2 to 3 inputs and has 1"},
          {"Conv - f32:4x3x3x3", "!input 0 of Conv is missing"},
          {"Conv f32:1x3x9223372036854775807x8 f32:4x3x3x3", "!too large"},
          {"Conv f32:1x3x8x8 f32:4x3x3x3 | auto_pad='SOME'", "!auto_pad 'SOME'"},
          {"ConvTranspose f32:1x4x5x5 f32:4x2x3x3 | strides=[2,2] output_padding=[1,1]", "f32 1x2x12x12"},
          {"ConvTranspose f32:1x4x5x5 f32:4x2x3x3 | group=2 pads=[1,1,1,1]", "f32 1x4x5x5"},
          {"ConvTranspose f32:1x4x5x5 f32:4x2x3x3 | pads=[9,9,9,9]", "!would have"},
          {"ConvTranspose f32:1x4x5x5 f32:4x2x3x3 | output_shape=[1]", "!wrong length"},
          {"ConvTranspose f32:1x4x5x5 f32:4x2x3x3 | output_shape=[-9223372036854775808,9]", "!would have 0 elements"},
          {"ConvTranspose f32:1x3x5x5 f32:4x2x3x3", "!has 3 channels and the weights take 4"},
          {"ConvTranspose f32:1x4x5x5 f32:4x9223372036854775807x3x3 | group=4", "!groups"});
}

static void pooling(void **state) {
    CHECK({"MaxPool f32:1x2x7x7 | kernel_shape=[2,2] strides=[2,2] ceil_mode=1", "f32 1x2x4x4"},
          {"MaxPool f32:1x2x7x7 | kernel_shape=[2,2] strides=[2,2]", "f32 1x2x3x3"},
          {"MaxPool u8:1x2x7x7 | kernel_shape=[3,3] dilations=[2,2]", "u8 1x2x3x3"},
          {"MaxPool f32:1x2x7x7", "!kernel_shape is missing"},
          {"MaxPool f32:1x2x7x7 | kernel_shape=[0,2]", "!kernel_shape holds 0"},
          {"MaxPool f32:1x2x7x7 | kernel_shape=[2]", "!1 numbers where 2"},
          {"MaxPool f32:1x2 | kernel_shape=[2]", "!2 dimensions is not supported"},
          {"MaxPool/2 f32:1x2x7x7 | kernel_shape=[2,2]", "f32 1x2x6x6"},
          {"AveragePool f32:1x2x?x6 | kernel_shape=[2,2]", "f32 1x2x?x5"},
          {"AveragePool f32:1x2x6x6 | kernel_shape=[2,2] pads=[1073741824,1073741824,1073741824,1073741824]", "!too large"},
          {"GlobalAveragePool f32:1x2x6x6", "f32 1x2x1x1"},
          {"GlobalAveragePool f32:1x2", "!2 dimensions where 3 to 8"});
}

static void matrices(void **state) {
    CHECK({"MatMul f32:2x3 f32:3x4", "f32 2x4"}, {"MatMul f32:3 f32:3x4", "f32 4"}, {"MatMul f32:2x3 f32:3", "f32 2"},
          {"MatMul f32:3 f32:3", "f32 "}, {"MatMul f32:5x1x2x3 f32:7x3x4", "f32 5x7x2x4"},
          {"MatMul f32:?x3 f32:3x4", "f32 ?x4"}, {"MatMul f32: f32:3x4", "!scalar"},
          {"MatMul f32:2x3 f32:2x4", "!has 3 columns and the right 2 rows"},
          {"MatMul f32:2x2x3 f32:3x3x4", "!cannot be broadcast"},
          {"MatMul f32:2x3 s64:3x4", "!types f32 and s64"},
          {"MatMul f32:4294967296x1 f32:1x4294967296", "!too large"},
          {"Gemm f32:2x3 f32:3x4 f32:4", "f32 2x4"}, {"Gemm f32:3x2 f32:4x3 | transA=1 transB=1", "f32 2x4"},
          {"Gemm f32:2x3 f32:4x4", "!is 3 on the left and 4 on the right"},
          {"Gemm f32:2x3 f32:3x4 f32:5", "!cannot be broadcast"},
          {"Gemm f32:1x3 f32:3x4 f32:2x4", "!does not broadcast"},
          {"Gemm f32:2x3x1 f32:3x4", "!3 dimensions where 2"});
}

static void elementwise(void **state) {
    CHECK({"Add f32:2x1x4 f32:3x1", "f32 2x3x4"}, {"Add f32:?x4 f32:1x4", "f32 ?x4"}, {"Add f32:?x4 f32:2x4", "f32 2x4"},
          {"Add f32:2x3 f32:2x4", "!shapes 2x3 and 2x4 cannot be broadcast"}, {"Add s64:2 s64:2", "s64 2"},
          {"Add f32:2 s64:2", "!types f32 and s64"}, {"Add bool:2 bool:2", "!type bool of input 0"},
          {"Add f32:unranked f32:2", "f32 unranked"}, {"Equal s64:3 s64:1", "bool 3"},
          {"And f32:3 f32:3", "!type f32 of input 0"}, {"Max f32:3 f32:2x1 f32:1", "f32 2x3"},
          {"Max", "!at least 1 inputs"}, {"Max f32:3 -", "!input 1 of Max is missing"},
          {"PRelu f32:2x3 f32:3", "f32 2x3"}, {"PRelu f32:3 f32:2x3", "!more dimensions"},
          {"PRelu f32:1x3 f32:2x3", "!does not broadcast to the input"},
          {"Where bool:3 f32:2x1 f32:", "f32 2x3"}, {"Where f32:3 f32:3 f32:3", "!type f32 of input 0"},
          {"Relu f64:3", "f64 3"}, {"Sigmoid f64:3", "!type f64"}, {"Clip f32:3 f32:2", "!not a scalar"},
          {"Clip f32:3 s64:", "!types f32 and s64"}, {"Gelu f32:3 | approximate='fast'", "!neither none nor tanh"},
          {"Mod f32:3 f32:3", "!fmod = 1"}, {"Cast f32:3 | to=7", "s64 3"}, {"Cast f32:3 | to=99", "!type 99"},
          {"Cast f32:3", "!type -1"});
}

static void shapes(void **state) {
    CHECK({"Reshape f32:2x3x4 s64=0,-1", "f32 2x12"}, {"Reshape f32:?x3x4 s64=-1,12", "f32 ?x12"},
          {"Reshape f32:?x3x4 s64=0,-1", "f32 ?x12"}, {"Reshape f32:2x3 s64=7", "!6 elements cannot become 7"},
          {"Reshape f32:2x3 s64=4,-1", "!6 elements do not divide by 4"}, {"Reshape f32:2x3 s64=-1,-1", "!two dimensions"},
          {"Reshape f32:2x3 s64=-2,3", "!would be -2"}, {"Reshape f32:2x3 s64=2,3,0", "!copied from an input of 2"},
          {"Reshape f32:0x3 s64=0,5 | allowzero=1", "f32 0x5"}, {"Reshape f32:2x3 s64=0,-1 | allowzero=1", "!do not divide by 0"},
          {"Reshape f32:2x3 s64=4294967296,4294967296", "!too large"}, {"Reshape f32:2x3 s64:2", "f32 ?x?"},
          {"Reshape f32:2x3 s64:?", "f32 unranked"}, {"Reshape f32:2x3 f32=6", "!integers are expected"},
          {"Reshape f32:1 s64=1,1,1,1,1,1,1,1,1", "!9 dimensions are more than the 8"},
          {"Reshape f32:1 s64=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "!more than any tensor"},
          {"Flatten f32:2x3x4 | axis=-1", "f32 6x4"}, {"Flatten f32:2x3 | axis=3", "!axis 3 is out of range"},
          {"Flatten f32:2x3 | axis=0", "f32 1x6"}, {"Flatten f32:?x3x2", "f32 ?x6"},
          {"Squeeze@11 f32:1x3x1 | axes=[0,-1]", "f32 3"}, {"Squeeze f32:1x3x1 s64=2", "f32 1x3"},
          {"Squeeze f32:1x3x1", "f32 3"}, {"Squeeze f32:1x?", "f32 unranked"}, {"Squeeze f32:1x3 s64=1", "!has 3 elements"},
          {"Squeeze f32:1x3 s64=5", "!axis 5 is out of range"}, {"Squeeze f32:1x1 s64=0,-2", "!named twice"},
          {"Unsqueeze@11 f32:3 | axes=[0,2]", "f32 1x3x1"}, {"Unsqueeze f32:3 s64=-1", "f32 3x1"},
          {"Unsqueeze f32:3", "!axes are missing"}, {"Unsqueeze f32:3 s64=0,0", "!named twice"},
          {"Unsqueeze f32:1x1x1x1x1x1x1x1 s64=0", "!more than the 8"}, {"Unsqueeze f32:3 s64:1", "f32 ?x?"},
          {"Transpose f32:2x3x4", "f32 4x3x2"}, {"Transpose f32:2x3 | perm=[0,0]", "!not a permutation"},
          {"Transpose f32:2x3 | perm=[0]", "!1 axes of 2"}, {"Transpose f32:2x3 | perm=[0,9223372036854775807]", "!permutation"},
          {"Shape f32:2x3x4 | start=1", "s64 2"}, {"Shape f32:2x3x4 | start=5 end=-9223372036854775808", "s64 0"},
          {"ConstantOfShape s64=2,3", "f32 2x3"}, {"ConstantOfShape s64=-1", "!would be -1"},
          {"ConstantOfShape s64=9223372036854775807,9223372036854775807", "!too large"},
          {"ConstantOfShape s64:3", "f32 ?x?x?"}, {"Expand f32:3x1 s64=2,1,4", "f32 2x3x4"},
          {"Expand f32:3 s64=4", "!cannot be broadcast"}, {"Expand f32:3 s64=-3", "!would be -3"},
          {"Tile f32:2x3 s64=2,2", "f32 4x6"}, {"Tile f32:2x3 s64=2", "!1 repeats for 2"},
          {"Tile f32:2x3 s64=9223372036854775807,4", "!too large"}, {"Tile f32:2 s64=-1", "!-1 times"},
          {"Range s64==0 s64==10 s64==3", "s64 4"}, {"Range s64==0 s64==10 s64==0", "!no finite list"},
          {"Range s64==-9223372036854775808 s64==9223372036854775807 s64==1", "!no finite list"},
          {"Range f32==0 f32==10 f32==0", "!no finite list"}, {"Range s64: s64: s64:", "s64 ?"},
          {"Constant | value_ints=[1,2]", "s64 2"}, {"Constant | value_string='x'", "!no numeric value"});
}

static void moves(void **state) {
    CHECK({"Concat f32:2x3 f32:2x4 | axis=1", "f32 2x7"}, {"Concat f32:2x3 f32:2x? | axis=-1", "f32 2x?"},
          {"Concat f32:2x3 f32:3x3 | axis=1", "!3 elements along axis 0"}, {"Concat f32:2x3 f32:2 | axis=0", "!1 dimensions"},
          {"Concat f32:2x3 f32:2x3", "!axis is missing"}, {"Concat f32:2x3 f32:2x3 | axis=[1]", "!axis is a list of integers where an integer"}, {"Concat f32:2 f32:2 | axis=1", "!out of range"},
          {"Concat f32:9223372036854775807 f32:9223372036854775807 | axis=0", "!too large"},
          {"Split/2 f32:6x2", "f32 3x2"}, {"Split@13/2 f32:5x2", "!do not divide into 2 equal parts"},
          {"Split/2 f32:5x2", "f32 3x2"}, {"Split/2 f32:6 s64=1,4", "!add up to 5"}, {"Split/2 f32:6 s64=1,-1", "!-1 is not"},
          {"Split/2 f32:6 s64=6", "!1 sizes for 2"}, {"Split/2 f32:6 | num_outputs=3", "!num_outputs is 3"},
          {"Split/2 f32:6 s64=9223372036854775807,9223372036854775807", "!not a possible size"},
          {"Slice@9 f32:5x6 | starts=[1,-3] ends=[4,100]", "f32 3x3"}, {"Slice f32:5 s64=4 s64=-9223372036854775808 s64=0 s64=-2", "f32 3"},
          {"Slice f32:5 s64=0 s64=5 s64=0 s64=0", "!step is 0"}, {"Slice f32:5 s64=0,1 s64=5", "!differ in length"},
          {"Slice f32:5 s64=0 s64=5 s64=1", "!out of range"}, {"Slice f32:5x5 s64=0,0 s64=5,5 s64=0,0", "!named twice"},
          {"Slice f32:5x5 s64=0,0,0 s64=5,5,5", "!out of range"}, {"Slice f32:5 s64:1 s64=3", "f32 ?"},
          {"Slice f32:5 s64=9223372036854775807 s64=-9223372036854775808 s64=0 s64=-9223372036854775808", "f32 1"},
          {"Slice@9 f32:5", "!starts or ends are missing"}, {"Gather f32:5x3 s64=0,-1", "f32 2x3"},
          {"Gather f32:5x3 s64==4", "f32 3"}, {"Gather f32:5x3 s64=5", "!index 5 is out of range"},
          {"Gather f32:5x3 s64=-6", "!index -6"}, {"Gather f32:5x3 f32=0", "!type f32 of input 1"},
          {"Gather f32:0x3 s64:2", "!is empty"}, {"Gather f32:1x1x1x1x1 s64:1x1x1x1x1", "!9 dimensions"},
          {"Gather f32: s64==0", "!out of range for 0 dimensions"},
          {"Pad f32:2x3 s64=1,0,1,2", "f32 4x5"}, {"Pad@2 f32:2x3 | pads=[0,1,0,1]", "f32 2x5"},
          {"Pad f32:2x3 s64=1,0,1", "!3 amounts for 2 axes"}, {"Pad f32:2 s64=-3,0", "!cropped by more"},
          {"Pad f32:2 s64=9223372036854775807,0", "!too large"}, {"Pad f32:2 s64=1,1 | mode='mirror'", "!mode 'mirror'"},
          {"Pad f32:0 s64=1,1 | mode='edge'", "!nothing to repeat"}, {"Pad f32:2x3 s64=1,1 - s64=-1", "f32 2x5"},
          {"Pad f32:2x3 s64=1,1 - s64=7", "!out of range"}, {"Pad f32:2x3 s64:4", "f32 ?x?"},
          {"DepthToSpace f32:1x8x2x3 | blocksize=2", "f32 1x2x4x6"}, {"DepthToSpace f32:1x6x2x3 | blocksize=2", "!divide by 4"},
          {"DepthToSpace f32:1x8x2x3 | blocksize=0", "!blocksize of 0"}, {"SpaceToDepth f32:1x2x4x6 | blocksize=2", "f32 1x8x2x3"},
          {"SpaceToDepth f32:1x2x4x6 | blocksize=9223372036854775807", "!blocksize of"});
}

static void scattered(void **state) {
    CHECK({"ScatterElements f32:3x4 s64:2x2 f32:2x2 | axis=1", "f32 3x4"},
          {"ScatterElements f32:3x4 s64:2x2 f32:2x2 | reduction='sum'", "!reduction 'sum'"},
          {"ScatterElements f32:3x4 s64:2x5 f32:2x5", "!do not fit the data along axis 1"},
          {"ScatterElements f32:3x4 s64:2x2 f32:2x3", "!do not fit the updates along axis 1"},
          {"ScatterElements f32:3x4 s64:2 f32:2", "!1 dimensions where 2"}, {"ScatterElements f32:3 s64=3 f32:1", "!index 3"},
          {"ScatterElements f32:3 s64=-4 f32:1", "!index -4"}, {"ScatterElements f32:3 s64:2 f32:2 | axis=1", "!axis 1"},
          {"ScatterElements f32:3 s64:2 s64:2", "!types f32 and s64"}, {"ScatterElements f32:0 s64:2 f32:2", "f32 0"},
          {"ScatterElements bool:3 s64:2 bool:2 | reduction='add'", "!type bool"},
          {"ScatterElements u64:3 s32:2 u64:2 | reduction='max'", "u64 3"}, {"Scatter@10 f32:3 s64:2 f32:2", "f32 3"},
          {"ScatterND f32:3x4x5 s64:7x2 f32:7x5 | reduction='add'", "f32 3x4x5"},
          {"ScatterND f32:3x4 s64:7x3 f32:7", "!does not address"}, {"ScatterND f32:3x4 s64:7x0 f32:7x3x4", "!does not address"},
          {"ScatterND f32:3x4 s64:7x2 f32:6", "!updates of shape 6 where 7"}, {"ScatterND f32:3 s64:1 f32:", "f32 3"},
          {"ScatterND f32:3 s64=3 f32:", "!index 3"}, {"ScatterND f32:0x4 s64:2x1 f32:2x4", "f32 0x4"},
          {"ScatterND f32:1x1x1x1x1x1x1x1 s64:1x1x1x1x1x1x1x1 f32:1", "!is expected"},
          {"ReverseSequence f32:4x3x2 s64:3", "f32 4x3x2"}, {"ReverseSequence f32:4x3 s64:4", "!4 lengths for 3"},
          {"ReverseSequence f32:4x3 s64:4 | batch_axis=0 time_axis=1", "f32 4x3"}, {"ReverseSequence f32:0x3 s64:3", "f32 0x3"},
          {"ReverseSequence f32:4x3 s64:3 | batch_axis=2 time_axis=1", "!not 0 and 1"},
          {"ReverseSequence f32:4x2 s64=5,1", "!length of 5"}, {"ReverseSequence f32:4x2 s64=-1,1", "!length of -1"},
          {"EyeLike s32:3x4 | k=1", "s32 3x4"}, {"EyeLike f32:3x4 | k=-9223372036854775808 dtype=7", "s64 3x4"},
          {"EyeLike f32:3x4 | k=9223372036854775807", "f32 3x4"}, {"EyeLike f32:3", "!1 dimensions where 2"},
          {"EyeLike f32:3x3 | dtype=99", "!type 99"}, {"Det f32:5x3x3", "f32 5"}, {"Det f32:0x0", "f32 "},
          {"Det f32:2x3", "!no determinant"}, {"Det f32:3", "!1 dimensions where 2"});
}

static void losses(void **state) {
    CHECK({"NegativeLogLikelihoodLoss f32:3x5 s64:3", "f32 "}, {"NegativeLogLikelihoodLoss f32:3x5x2 s32:3x2 f32:5 | reduction='none'", "f32 3x2"},
          {"NegativeLogLikelihoodLoss f32:3x5 s64:3x1", "!do not fit scores"}, {"NegativeLogLikelihoodLoss f32:3x5 s64:4", "!do not fit scores"},
          {"NegativeLogLikelihoodLoss f32:3x5 s64:3 f32:4", "!4 weights for 5"}, {"NegativeLogLikelihoodLoss f32:3x5 s64=0,4,5", "!class 5"},
          {"NegativeLogLikelihoodLoss f32:3x5 s64=0,4,5 | ignore_index=5", "f32 "}, {"NegativeLogLikelihoodLoss f32:3 s64:", "!1 dimensions"},
          {"NegativeLogLikelihoodLoss f32:3x5 s64:3 | reduction='max'", "!reduction 'max'"},
          {"NegativeLogLikelihoodLoss f32:3x0 s64:3", "f32 "}, {"NegativeLogLikelihoodLoss f32:0x5 s64:0", "f32 "},
          {"SoftmaxCrossEntropyLoss/2 f32:3x5x0 s64:3x0", "f32 "}, {"SoftmaxCrossEntropyLoss/2 f32:3x5x2 s64:3x2 | reduction='none'", "f32 3x2"},
          {"SoftmaxCrossEntropyLoss/2 f32:3x0 s64:3", "f32 "}, {"SoftmaxCrossEntropyLoss f32:?x5 s64:3", "f32 "},
          {"Hardmax@11 f32:2x3 | axis=2", "f32 2x3"}, {"Hardmax f32:2x3 | axis=2", "!axis 2"}, {"Hardmax f32:2x0", "f32 2x0"});
}

static void drawn(void **state) {
    CHECK({"RandomUniform | shape=[2,3]", "f32 2x3"}, {"RandomNormal | shape=[2,3] dtype=11", "f64 2x3"},
          {"RandomUniform", "!has no shape"}, {"RandomUniform | shape=[-1]", "!would be -1"},
          {"RandomUniform | shape=[1,1,1,1,1,1,1,1,1]", "!has no shape of at most 8"}, {"RandomNormal | shape=[2] dtype=7", "!type s64"},
          {"RandomUniform | shape=[4294967296,4294967296]", "!too large"}, {"RandomNormalLike f16:2x3", "f16 2x3"},
          {"RandomUniformLike s64:2", "!type s64"}, {"RandomUniformLike s64:2 | dtype=1 low=1.0f high=inff", "f32 2"},
          {"Bernoulli f32:2x3 | dtype=9", "bool 2x3"}, {"Bernoulli s64:2", "!type s64 of input 0"},
          {"Multinomial f32:2x3 | sample_size=4", "s32 2x4"}, {"Multinomial f32:2x0", "!of no class"},
          {"Multinomial f32:2x3 | sample_size=0", "!0 samples"}, {"Multinomial f32:2x3 | dtype=7", "s64 2x1"},
          {"Dropout/2 f32:3 f32= bool==1", "!must be scalars"}, {"Dropout/2 f32:3 f32==1 bool==1", "f32 3"},
          {"Dropout f32:3 f32==2 bool==1", "!ratio of 2"}, {"Dropout/2 f32:3 f32: bool:", "f32 3"}, {"Dropout s64:3", "!type s64"},
          {"TfIdfVectorizer s64:2x6 | mode='TF' min_gram_length=1 max_gram_length=2 max_skip_count=9223372036854775807 ngram_counts=[0,1] ngram_indexes=[3,0] pool_int64s=[1,2,3]", "f32 2x4"},
          {"TfIdfVectorizer s64:0 | mode='TFIDF' min_gram_length=1 max_gram_length=1 ngram_counts=[0] ngram_indexes=[0] pool_int64s=[1]", "f32 1"},
          {"TfIdfVectorizer s64:6 | mode='TF' min_gram_length=1 max_gram_length=2 ngram_counts=[0,4] ngram_indexes=[3,0] pool_int64s=[1,2,3]", "!does not cut"},
          {"TfIdfVectorizer s64:6 | mode='TF' min_gram_length=1 max_gram_length=2 ngram_counts=[0] ngram_indexes=[3] pool_int64s=[1,2,3]", "!one element for each"},
          {"TfIdfVectorizer s64:6 | mode='TF' min_gram_length=1 max_gram_length=1 ngram_counts=[0] ngram_indexes=[-1] pool_int64s=[1]", "!out of range"},
          {"TfIdfVectorizer s64:6 | mode='TF' min_gram_length=1 max_gram_length=1 ngram_counts=[0] ngram_indexes=[9223372036854775807] pool_int64s=[1]", "!out of range"},
          {"TfIdfVectorizer s64:6 | mode='TF' min_gram_length=2 max_gram_length=1", "!cannot be"}, {"TfIdfVectorizer s64:6 | mode='X'", "!mode is none"},
          {"TfIdfVectorizer s64:6 | mode='TF' min_gram_length=1 max_gram_length=1", "!pool_int64s is missing"},
          {"BitShift u8:3 u8:1 | direction='LEFT'", "u8 3"}, {"BitShift u8:3 u8:3", "!neither LEFT nor RIGHT"},
          {"BitShift s8:3 s8:3 | direction='LEFT'", "!type s8"},           {"Max u64:3 u64:3", "u64 3"}, {"Div u64:3 u64:3", "u64 3"}, {"Shrink f32:3", "f32 3"}, {"Shrink s64:3", "!type s64"});
}

static void indices(void **state) {
    CHECK({"GatherElements f32:3x4 s64:3x2 | axis=1", "f32 3x2"}, {"GatherElements f32:3x4 s64:4x2 | axis=1", "!4 indices along axis 0"},
          {"GatherElements f32:3x4 s64:3 | axis=1", "!1 dimensions where 2"}, {"GatherElements f32:3 s64=3", "!index 3 is out of range"},
          {"GatherND f32:3x4x5 s64:7x2", "f32 7x5"}, {"GatherND f32:3x4x5 s64:3x2x1 | batch_dims=1", "f32 3x2x5"},
          {"GatherND f32:3x4 s64:7x3", "!3 numbers address 2 axes"}, {"GatherND f32:3x4 s64:7x0", "!0 numbers"},
          {"GatherND f32:3x4 s64:2x1 | batch_dims=1", "!batch dimensions differ"}, {"GatherND f32:3x4 s64=3", "!index 3"},
          {"GatherND f32:3x4 s64:2x1 | batch_dims=-1", "!do not fit"}, {"OneHot s64:3 s64==5 f32:2", "f32 3x5"},
          {"OneHot s64:3 s64==5 f32:2 | axis=0", "f32 5x3"}, {"OneHot s64:3 s64==0 f32:2", "!depth of 0"},
          {"OneHot s64:3 s64==5 f32:3", "!must be two"}, {"OneHot s64:3 s64: f32:2 | axis=-3", "!out of range"},
          {"OneHot s64:3 s64==9223372036854775807 f32:2", "!too large"}, {"Trilu f32:3x4 s64:", "f32 3x4"},
          {"Trilu f32:3", "!1 dimensions where 2"}, {"Trilu f32:3x4 s64:2", "!not a scalar"}, {"IsNaN f16:3", "bool 3"});
}

static void reductions(void **state) {
    CHECK({"ReduceMean@13 f32:2x3x4 | axes=[1] keepdims=0", "f32 2x4"}, {"ReduceMean f32:2x3x4 s64=-1", "f32 2x3x1"},
          {"ReduceSum f32:2x3", "f32 1x1"}, {"ReduceSum f32:2x3 | noop_with_empty_axes=1", "f32 2x3"},
          {"ReduceSum f32:2x3 s64=2", "!axis 2 is out of range"}, {"ReduceSum f32:2x3 s64=0,0", "!named twice"},
          {"ReduceSum f32:2x3 s64:1 | keepdims=0", "f32 unranked"}, {"ReduceMean u8:2", "!type u8"},
          {"ArgMax f32:2x3 | axis=1 keepdims=0", "s64 2"}, {"ArgMax f32:2x0 | axis=1", "!is empty"},
          {"TopK/2 f32:2x5 s64=3", "f32 2x3"}, {"TopK/2 f32:2x5 s64=6", "!k = 6 of 5"}, {"TopK/2 f32:2x5 s64=-1", "!k = -1"},
          {"CumSum f32:2x5 s64==1", "f32 2x5"}, {"CumSum f32:2x5 s64==2", "!out of range"}, {"CumSum f32:2x5 s64:", "!constant"},
          {"Softmax f32:2x5 | axis=2", "!out of range"}, {"Softmax@11 f32:2x5 | axis=2", "f32 2x5"},
          {"LayerNormalization f32:2x5 f32:5", "f32 2x5"}, {"LayerNormalization f32:2x5 f32:4", "!4 values where 5"},
          {"BatchNormalization f32:1x3x2 f32:3 f32:3 f32:3 f32:3", "f32 1x3x2"},
          {"BatchNormalization f32:1x3x2 f32:3 f32:2 f32:3 f32:3", "!input 2 has 2 values for 3"},
          {"BatchNormalization@13/3 f32:1x3 f32:3 f32:3 f32:3 f32:3", "!training mode"},
          {"BatchNormalization f32:1x3 f32:3 f32:3 f32:3 f32:3 | training_mode=1", "f32 1x3"},
          {"BatchNormalization/5 f32:1x3 f32:3 f32:3 f32:3 f32:3 | training_mode=1", "!has 5 outputs"},
          {"InstanceNormalization f32:1x3x2 f32:2 f32:3", "!input 1 has 2 values"},
          {"GroupNormalization f32:1x4x2 f32:4 f32:4 | num_groups=3", "!do not divide into 3"},
          {"LRN f32:1x3x2 | size=0", "!size must be"}, {"LpNormalization f32:3 | p=3", "!neither 1 nor 2"});
}

static void quantization(void **state) {
    CHECK({"QuantizeLinear f32:2x3 f32: u8:", "u8 2x3"}, {"QuantizeLinear f32:2x3 f32:", "u8 2x3"},
          {"QuantizeLinear f32:2x3 f32: | output_dtype=3", "s8 2x3"}, {"QuantizeLinear f32:2x3 f32:3 s8:3 | axis=1", "s8 2x3"},
          {"QuantizeLinear f32:2x3 f32:2 s8:2 | axis=1", "!2 scales for 3"}, {"QuantizeLinear f32:2x3 f32:3 s8:2", "!differ in shape"},
          {"QuantizeLinear f32:2x3 f32:3 s8:3 | axis=2", "!out of range"}, {"QuantizeLinear f32:2x3 f32: f32:", "!type f32 of input 2"},
          {"QuantizeLinear f32:2x4 f32:2x2 | block_size=2", "u8 2x4"}, {"DequantizeLinear s8:2x3 f32: s8:", "f32 2x3"},
          {"DequantizeLinear s4:2x5 f32:2x3 s4:2x3 | block_size=2", "f32 2x5"},
          {"DequantizeLinear s4:2x5 f32:2x2 s4:2x2 | block_size=2", "!2 elements along axis 1 where blocks of 2 make 3"},
          {"DequantizeLinear s4:2x5 f32:3x3 s4:3x3 | block_size=2", "!3 elements along axis 0"},
          {"DequantizeLinear s4:2x5 f32:3 s4:3 | block_size=2", "!as many dimensions as the input: 2, not 1"},
          {"DequantizeLinear s4:2x5 f32:2x3 s4:2x3 | block_size=-2", "!block_size is -2"},
          {"DequantizeLinear s4:2x5 f32:2x3 s4:2x3 | block_size=2 axis=2", "!out of range"},
          {"QuantizeLinear f32:2x3 f32: e4m3:", "e4m3 2x3"}, {"QuantizeLinear f32:2x3 f32: | output_dtype=22", "s4 2x3"},
          {"QuantizeLinear f32:2x3 f32: e5m2: | saturate=0", "!saturate = 0"}, {"DequantizeLinear u4:2x3 f32: s4:", "!types u4 and s4"},
          {"DequantizeLinear s8:2x3 f32: u8:", "!types s8 and u8"}, {"DequantizeLinear f32:2x3 f32:", "!type f32 of input 0"});
}

static void recurrent(void **state) {
    CHECK({"LSTM/3 f32:5x2x3 f32:1x16x3 f32:1x16x4 f32:1x32 | hidden_size=4", "f32 5x1x2x4"},
          {"LSTM f32:5x2x3 f32:2x16x3 f32:2x16x4 | direction='bidirectional'", "f32 5x2x2x4"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 | layout=1", "f32 5x2x1x4"},
          {"GRU f32:5x2x3 f32:1x12x3 f32:1x12x4", "f32 5x1x2x4"},
          {"RNN f32:5x2x3 f32:1x4x3 f32:1x4x4 | activations='Relu'", "f32 5x1x2x4"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 | hidden_size=5", "!hidden_size is 5"},
          {"LSTM f32:5x2x3 f32:1x16x9 f32:1x16x4", "!W has shape 1x16x9 where 1x16x3"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 | direction='bidirectional'", "!W has shape"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 f32:1x31", "!B has shape 1x31"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 | direction='sideways'", "!direction 'sideways'"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 | activations='Sigmoid,Tanh'", "!fewer than 3"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 | activations='Sigmoid,Tanh,Foo'", "!'Foo' is not supported"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x? | hidden_size=0", "!hidden size of 0"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 - - f32:1x3x4", "!initial_h has shape"},
          {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4 - s32:3", "!sequence_lens has shape"},
          {"LSTM f32:5x2 f32:1x16x3 f32:1x16x4", "!2 dimensions where 3"});
}

static void resizing(void **state) {
    CHECK({"Resize f32:1x1x2x3 - f32=1,1,2,2", "f32 1x1x4x6"}, {"Resize f32:1x1x2x3 - - s64=1,1,5,5 | mode='linear'", "f32 1x1x5x5"},
          {"Resize f32:1x1x2x3 - - s64=5,5 | axes=[2,3]", "f32 1x1x5x5"}, {"Resize@10 f32:2x3 f32=2,2", "f32 4x6"},
          {"Upsample@9 f32:2x3 f32=2,2", "f32 4x6"}, {"Upsample@7 f32:2x3 | scales=[2.0f,2.0f]", "f32 4x6"},
          {"Resize f32:2x3 - f32:2", "f32 ?x?"}, {"Resize f32:2x3 - f32=-1,1", "!scale of -1"},
          {"Resize f32:2x3 - f32=1e30,1", "!scale of"}, {"Resize f32:2x3", "!neither scales nor sizes"},
          {"Resize f32:2x3 - f32=2", "!one number an axis"}, {"Resize f32:2x3 - - s64=0,3", "!cannot become 0"},
          {"Resize f32:2x3 - f32=2,2 | mode='cubic'", "f32 4x6"}, {"Resize f32:2x3 - f32=2,2 | mode='area'", "!mode 'area'"},
          {"Resize f32:4x8 - - s64=3,4 | keep_aspect_ratio_policy='not_larger'", "f32 2x4"},
          {"Resize f32:4x8 - - s64=3,4 | keep_aspect_ratio_policy='not_smaller'", "f32 3x6"},
          {"Resize f32:2x3 - - s64=4,4 | coordinate_transformation_mode='tf_crop_and_resize'", "!needs a roi"},
          {"Resize f32:2x3 f32=0,0,1 - s64=4,4 | coordinate_transformation_mode='tf_crop_and_resize'", "!two numbers an axis"},
          {"Resize f32:2x3 f32=0,0,1,1e30 - s64=4,4 | coordinate_transformation_mode='tf_crop_and_resize'", "!a roi of"},
          {"Resize s64:2x3 f32=0,0,1,1 - s64=4,4 | coordinate_transformation_mode='tf_crop_and_resize'", "!type s64"},
          {"Resize f32:2x3 - - s64=5,5 | axes=[0,0]", "!named twice"},
          {"Resize f32:2x3 - f32=2,2 | antialias=1 mode='linear'", "f32 4x6"});
}

static void sampling(void **state) {
    CHECK({"GridSample f32:2x3x4x5 f32:2x6x7x2", "f32 2x3x6x7"}, {"GridSample f32:2x3x4x5 f32:2x6x7x3", "!2 coordinates a place"},
          {"GridSample f32:2x3x4x5 f32:1x6x7x2", "!for each image"}, {"GridSample f32:2x3x4x5 f32:2x7x2", "!3 dimensions where 4"},
          {"GridSample f32:2x3x4x5 f32:2x6x7x2 | mode='near'", "!mode 'near'"}, {"GridSample f32:2x3x0x5 f32:2x6x7x2", "!empty"},
          {"GridSample f32:2x3x4x5 f32:2x6x7x2 | padding_mode='wrap'", "!padding_mode 'wrap'"},
          {"AffineGrid f32:2x2x3 s64=2,1,5,6", "f32 2x5x6x2"}, {"AffineGrid f32:2x2x3 s64=3,1,5,6", "!one map for each of 3"},
          {"AffineGrid f32:2x2x3 s64=2,1,5", "!3 numbers"}, {"AffineGrid f32:2x3x4 s64=2,1,5,6", "!2x3 matrices"},
          {"RoiAlign f32:2x3x4x5 f32:7x4 s64:7 | output_height=2", "f32 7x3x2x1"}, {"RoiAlign f32:2x3x4x5 f32:7x4 s64:6", "!batch indices"},
          {"RoiAlign f32:2x3x4x5 f32:7x5 s64:7", "!4 coordinates"}, {"RoiAlign f32:2x3x4x5 f32:7x4 s64:7 | output_width=0", "!output_width is 0"},
          {"RoiAlign f32:2x3x4x5 f32:7x4 s64:7 | mode='sum'", "!mode 'sum'"},
          {"RoiAlign f32:2x3x4x5 f32:7x4 s64:7 | sampling_ratio=1000", "!sampling_ratio is 1000"});
}

static void einsum(void **state) {
    CHECK({"Einsum f32:2x3 f32:3x4 | equation='ij,jk->ki'", "f32 4x2"}, {"Einsum f32:2x3 f32:3x4 | equation='ij,jk'", "f32 2x4"},
          {"Einsum f32:5x2x3 f32:3x4 | equation='...ij,jk->...ik'", "f32 5x2x4"}, {"Einsum f32:2x? f32:3x4 | equation='ij,jk->ij'", "f32 2x3"},
          {"Einsum f32:2x2 | equation='ii'", "f32 "}, {"Einsum f32:2x3 f32:4x4 | equation='ij,jk->ik'", "!elements have one label"},
          {"Einsum f32:2x3 f32:3x4 | equation='ij->ij'", "!fewer terms"}, {"Einsum f32:2x3 | equation='ij,jk->ij'", "!more terms"},
          {"Einsum f32:2x3 | equation='ijk->i'", "!does not fit its operand"}, {"Einsum f32:2x3 | equation='ij->ik'", "!none of the operands'"},
          {"Einsum f32:2x3 | equation='ij->ii'", "!doubled"}, {"Einsum f32:2x3 | equation='i1->i'", "!cannot be read at '1"},
          {"Einsum f32:2x3 | equation='......->'", "!cannot be read"}, {"Einsum f32:2x3 | equation='ij->i->j'", "!"},
          {"Einsum f32:2x3 s64:3x2 | equation='ij,ji->i'", "!types f32 and s64"});
}

static void pooling_back(void **state) {
    CHECK({"MaxUnpool f32:1x2x3x3 s64:1x2x3x3 | kernel_shape=[2,2] strides=[2,2]", "f32 1x2x6x6"},
          {"MaxUnpool f32:1x2x3x3 s64:1x2x3x3 s64=1,2,7,7 | kernel_shape=[2,2] strides=[2,2]", "f32 1x2x7x7"},
          {"MaxUnpool f32:1x2x3x3 s64:1x2x3x2 | kernel_shape=[2,2]", "!differ in shape"},
          {"MaxUnpool f32:1x2x3x3 s64:1x2x3x3 s64=1,3,7,7 | kernel_shape=[2,2]", "!says 3 elements of axis 1"},
          {"MaxUnpool f32:1x2x3x3 s64:1x2x3x3 | kernel_shape=[2,2] pads=[2,2,2,2]", "!would have 0"},
          {"ReduceMax@20 bool:2x3 s64=1", "bool 2x1"}, {"ReduceMax@18 bool:2x3 s64=1", "!type bool"}, {"IsNaN e4m3:2", "bool 2"},
          {"LpPool f32:1x2x5x5 | kernel_shape=[2,2] p=3", "f32 1x2x4x4"}, {"LpPool f32:1x2x5x5 | kernel_shape=[2,2] p=0", "!no 0-norm"},
          {"GlobalLpPool f32:1x2x5x5", "f32 1x2x1x1"}, {"Col2Im f32:1x5x5 s64=5,5 s64=1,5", "f32 1x1x5x5"},
          {"Col2Im f32:1x5x6 s64=5,5 s64=1,5", "!has 5 blocks"}, {"Col2Im f32:1x6x5 s64=5,5 s64=1,5", "!no multiple"},
          {"Col2Im f32:1x5x5 s64=5,5 s64=9,9", "!does not fit"}, {"Col2Im f32:1x5x5 s64=5,5 s64=1", "!as many each"},
          {"Col2Im f32:1x5x5 s64=5,5 s64=1,5 | strides=[0,1]", "!holds 0"}, {"Col2Im f32:1x5x5 s64:2 s64=1,5", "f32 1x?x?x?"},
          {"CenterCropPad f32:5x4x3 s64=2,9 | axes=[0,-1]", "f32 2x4x9"}, {"CenterCropPad f32:5x4 s64=2", "!1 sizes for 2 axes"},
          {"CenterCropPad f32:5x4 s64=2,-1", "!size of -1"}, {"CenterCropPad f32:5x4 s64:2", "f32 ?x?"},
          {"ConvInteger u8:1x2x5x5 s8:4x2x3x3 u8: s8:4", "s32 1x4x3x3"}, {"ConvInteger u8:1x2x5x5 s8:4x2x3x3 u8: s8:3", "!input 3 is neither"},
          {"ConvInteger u8:1x3x5x5 s8:4x2x3x3", "!3 input and 4 output channels"}, {"ConvInteger u8:1x2x5x5 s8:4x2x3x3 s8:", "!types u8 and s8"},
          {"BitwiseAnd s32:3x1 s32:4", "s32 3x4"}, {"BitwiseOr f32:3 f32:3", "!type f32"}, {"BitwiseXor s8:3 u8:3", "!types s8 and u8"});
}

static void spectra(void **state) {
    CHECK({"DFT@17 f32:2x6x1 | axis=1", "f32 2x6x2"}, {"DFT@17 f32:2x6x1 s64==9 | axis=1 onesided=1", "f32 2x5x2"},
          {"DFT f32:2x5x2 | inverse=1 onesided=1", "f32 2x8x1"}, {"DFT f32:4x6x2 - s64==0", "f32 4x6x2"}, {"DFT f32:2x6x3", "!has 3 elements"},
          {"DFT f32:2x6x2 - s64==2", "!parts of complex numbers"}, {"DFT f32:2x6x2 s64==0", "!0 elements is not possible"},
          {"DFT f32:2x6x2 s64==268435399", "!takes too long"}, {"DFT f32:2x6x2 s64:", "f32 ?x?x?"},
          {"STFT f32:2x50x1 s64==6 f32:15", "f32 2x6x8x2"}, {"STFT f32:2x50x1 s64==6 - s64==16 | onesided=0", "f32 2x6x16x2"},
          {"STFT f32:2x50x1 s64==0 f32:15", "!frame_step is 0"}, {"STFT f32:2x10x1 s64==1 f32:15", "!a signal of 10"},
          {"STFT f32:2x50x2 s64==6 f32:15", "!real signal"}, {"STFT f32:2x50x1 s64==6 f64:15", "!types f32 and f64"},
          {"HannWindow s64==10", "f32 10"}, {"HannWindow s64:", "f32 ?"}, {"HammingWindow s64==-1", "!size of -1"},
          {"BlackmanWindow s64==4 | output_datatype=11", "f64 4"}, {"BlackmanWindow s64==4 | output_datatype=8", "!output_datatype 8"},
          {"HannWindow s64=1,2", "!not one number"}, {"MelWeightMatrix s64==8 s64==64 s64==8000 f32==0 f32==4000", "f32 33x8"},
          {"MelWeightMatrix s64==8 s64==0 s64==8000 f32==0 f32==4000", "!size of 0"});
}

/* --- the registry ------------------------------------------------------------------------------------------- */

static void the_registry_is_consistent(void **state) {
    (void)state;
    int count = 0;
    for (; espl__op_at(count); count++) {
        const espl__op *op = espl__op_at(count);
        assert_ptr_equal(espl__op_find(op->domain, op->name), op);
        assert_non_null(op->infer);
        assert_true(op->eval || op->max_inputs < 0 || strstr(op->name, "Sequence") || strstr(op->name, "Optional"));
        assert_true(op->since >= 1 && op->until <= 21 && op->since <= op->until);
        assert_true(op->max_inputs < 0 || op->min_inputs <= op->max_inputs);
        assert_true(op->max_outputs < 0 || op->min_outputs <= op->max_outputs);
        assert_true((op->weight_inputs != 0) == (op->weight_axis != NULL));
        assert_int_equal(op->weight_inputs & op->bias_inputs, 0);
    }
    assert_true(count > 100);
    assert_null(espl__op_at(-1));
    assert_null(espl__op_find("", "NoSuchOperator"));
    assert_null(espl__op_find("com.example", "Conv"));
    assert_ptr_equal(espl__op_find("ai.onnx", "Conv"), espl__op_find("", "Conv"));
}

static void costs_and_weights(void **state) {
    static const struct {
        const char *spec;
        int64_t macs;
        int axis;
    } rows[] = {{"Conv f32:1x3x8x8 f32:4x3x3x3", 4 * 36 * 27, 0},
                {"Conv f32:1x4x8x8 f32:8x2x3x3 | group=2", 8 * 36 * 18, 0},
                {"Gemm f32:2x3 f32:3x4", 24, 1},
                {"Gemm f32:2x3 f32:4x3 | transB=1", 24, 0},
                {"MatMul f32:2x3 f32:3x4", 24, 1},
                {"LSTM f32:5x2x3 f32:1x16x3 f32:1x16x4", 10 * (48 + 64), 1},
                {"ConvTranspose f32:1x4x5x5 f32:4x2x3x3", 100 * 18, 1}};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl__node *node = parse_node(*state, rows[i].spec);
        assert_int_equal(node->op->infer(node, NULL), ESPL_OK);
        assert_int_equal(node->op->macs(node), rows[i].macs);
        assert_int_equal(node->op->weight_axis(node, 1), rows[i].axis);
        assert_true(node->op->weight_inputs & 1u << 1);
    }
}

/* Once the shape of its output is known. */
static bool is_clip(espl__node *n, float *lo, float *hi) {
    assert_int_equal(n->op->infer(n, NULL), ESPL_OK);
    return espl__clip_range(n, lo, hi);
}

static void limits_of_clips(void **state) {
    float lo, hi;
    assert_true(espl__clip_range(parse_node(*state, "Clip f32:3 f32==0 f32==6"), &lo, &hi));
    assert_true(lo == 0.0f && hi == 6.0f);
    assert_true(espl__clip_range(parse_node(*state, "Clip@6 f32:3 | min=-1.0f"), &lo, &hi));
    assert_true(lo == -1.0f && hi > 3e38f);
    assert_false(espl__clip_range(parse_node(*state, "Clip f32:3 f32:"), &lo, &hi));
    assert_true(espl__clip_range(parse_node(*state, "Relu f32:3"), &lo, &hi));
    assert_true(lo == 0.0f && hi > 3e38f);
    assert_false(espl__clip_range(parse_node(*state, "Tanh f32:3"), &lo, &hi));
    assert_true(is_clip(parse_node(*state, "Max f32:3 f32==2"), &lo, &hi));
    assert_true(lo == 2.0f && hi > 3e38f);
    assert_true(is_clip(parse_node(*state, "Min f32:3 f32==2"), &lo, &hi));
    assert_true(lo < -3e38f && hi == 2.0f);
    static const char *const none[] = {"Max f32==2 f32:3", "Max f32:3", "Max f32:3 f32:", "Min f32:3 f32:3", "Min f32:3 f32==1 f32==2"};
    for (size_t i = 0; i < ESPL_COUNT(none); i++)
        if (is_clip(parse_node(*state, none[i]), &lo, &hi)) fail_msg("%s", none[i]);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(convolutions), TEST(pooling), TEST(matrices), TEST(elementwise), TEST(shapes), TEST(moves),
        TEST(indices), TEST(scattered), TEST(losses), TEST(drawn), TEST(reductions), TEST(quantization),
        TEST(recurrent), TEST(resizing), TEST(sampling), TEST(einsum), TEST(pooling_back), TEST(spectra),
        TEST(the_registry_is_consistent), TEST(costs_and_weights), TEST(limits_of_clips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
