/* protobuf-c over the context's allocator, with a budget: a message of two bytes becomes a struct of hundreds, so the
 * size of a file alone does not bound what parsing it takes. */
#include "onnx/onnx_impl.h"

#include <inttypes.h>

/* Honest models take little more than their own size, bare graphs without weights about 45 times that. */
enum { BUDGET_FACTOR = 64, BUDGET_FLOOR = 16 << 20 };

typedef struct budget {
    espl_context *ctx;
    uint64_t left;
    uint64_t refused; /* bytes of the allocation that the context refused */
    bool exceeded;
} budget;

static void *budget_alloc(void *user, size_t size) {
    budget *b = user;
    uint64_t cost = (uint64_t)size + 128; /* with what the allocators add */
    if (cost > b->left) {
        b->exceeded = true;
        return NULL;
    }
    b->left -= cost;
    void *ptr = espl__alloc(b->ctx, size);
    if (!ptr) b->refused = size;
    return ptr;
}

static void budget_free(void *user, void *ptr) { espl__free(((budget *)user)->ctx, ptr); }

espl_status espl__onnx_unpack_bytes(espl_context *ctx, const uint8_t *bytes, size_t length,
                                    const ProtobufCMessageDescriptor *descriptor, ProtobufCMessage **out, espl_diag *diag) {
    budget b = {.ctx = ctx, .left = (uint64_t)length * BUDGET_FACTOR + BUDGET_FLOOR};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &b};
    *out = protobuf_c_message_unpack(descriptor, &allocator, length, bytes);
    if (*out) return ESPL_OK;
    if (b.refused) return espl__nomem(diag, b.refused);
    if (b.exceeded)
        return espl__fail(diag, ESPL_LIMIT, "takes more memory to parse than a real model of %zu bytes would", length);
    return espl__fail(diag, ESPL_FORMAT, "is not an ONNX file, or it is cut off or damaged (%zu bytes)", length);
}

espl_status espl__onnx_unpack(espl_context *ctx, const char *path, const ProtobufCMessageDescriptor *descriptor,
                              ProtobufCMessage **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    uint8_t *bytes = NULL;
    uint64_t length;
    *out = NULL;
    ESPL_TRY(espl__file_read(ctx, path, ESPL__ONNX_MAX_BYTES, &bytes, &length, diag));
    status = espl__onnx_unpack_bytes(ctx, bytes, (size_t)length, descriptor, out, diag);
    if (status != ESPL_OK && status != ESPL_NOMEM) espl__diag_prefix(diag, "%s", path);
done:
    espl__free(ctx, bytes);
    return status;
}

void espl__onnx_unpacked_free(espl_context *ctx, ProtobufCMessage *message) {
    budget b = {.ctx = ctx};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &b};
    if (message) protobuf_c_message_free_unpacked(message, &allocator);
}
