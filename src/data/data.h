/* Inside src/data: what a description says, what a kind of data set does, and the parts they share. */
#ifndef ESPL_DATA_H
#define ESPL_DATA_H

#include "espalier/data.h"
#include "tensor/tensor.h"

enum {
    ESPL__DATA_MAX_INPUTS = 16,
    ESPL__IMAGE_MAX_SIDE = 16384,
    ESPL__IMAGE_MAX_PIXELS = 64 << 20,
    ESPL__TEXT_MAX_SEQUENCE = 1 << 20,
    ESPL__TEXT_MAX_WORD = 4096,          /* bytes */
    ESPL__TEXT_MAX_VOCABULARY = 1 << 24, /* so that f32 holds every token */
};
/* Most bytes an uncompressed .gz file, or the images kept from a compressed archive, may have. */
#define ESPL__DATA_MAX_BYTES ((uint64_t)1 << 30)

/* --- the description (desc.c) ----------------------------------------------------------------- */

typedef struct espl__data_input {
    char *name, *path;
} espl__data_input;

typedef struct espl__data_every {
    int64_t n;
    int64_t *keep;
    unsigned keep_count;
} espl__data_every;

typedef struct espl__data_augment {
    int64_t pad, cutout;
    bool flip;
} espl__data_augment;

/* As the YAML file has it; absent keys are NULL or 0. docs/data.md says what each means. */
typedef struct espl__data_desc {
    char *kind, *path, *labels, *split, *layout, *scale, *vocab, *unit;
    char **paths;
    unsigned paths_count;
    espl__data_input *inputs;
    unsigned inputs_count;
    int64_t label_offset, count, resize, crop, channels, sequence;
    uint64_t seed;
    espl__data_every *every;
    double *mean, *std;
    unsigned mean_count, std_count;
    espl__data_augment *augment;
} espl__data_desc;

/* --- a picture: one decoded image, planes of f32 (picture.c) ---------------------------------- */

typedef struct espl__picture {
    espl_context *ctx;
    int channels, height, width;
    float *data;       /* [channels][height][width] */
    uint64_t capacity; /* floats that `data` has room for */
} espl__picture;

/* Gives the picture this size, within the limits above; its contents are undefined. */
ESPL_NODISCARD espl_status espl__picture_size(espl__picture *picture, int64_t channels, int64_t height,
                                              int64_t width, espl_diag *diag);
void espl__picture_free(espl__picture *picture);
/* The shorter side becomes `side`; bilinear with a triangle filter as wide as the reduction. `temporary` is
 * scratch and changes places with `picture`. */
ESPL_NODISCARD espl_status espl__picture_resize(espl__picture *picture, espl__picture *temporary,
                                                int64_t side, espl_diag *diag);
/* Keeps the centre `side` x `side`, in place. */
ESPL_NODISCARD espl_status espl__picture_crop(espl__picture *picture, int64_t side, espl_diag *diag);
/* Decodes a JPEG or PNG file's bytes. channels 0: as the file has them (1 or 3), else grey is repeated or
 * colour turned to grey (ITU-R BT.601 luma). */
ESPL_NODISCARD espl_status espl__jpeg_decode(const uint8_t *bytes, uint64_t length, int channels,
                                             espl__picture *picture, espl_diag *diag);
ESPL_NODISCARD espl_status espl__png_decode(const uint8_t *bytes, uint64_t length, int channels,
                                            espl__picture *picture, espl_diag *diag);

/* --- files ------------------------------------------------------------------------------------- */

/* Reads a file, uncompressed if it is gzip (gz.c); at most ESPL__DATA_MAX_BYTES. *data is owned by the
 * caller. */
ESPL_NODISCARD espl_status espl__gz_read(espl_context *ctx, const char *path, uint8_t **data,
                                         uint64_t *length, espl_diag *diag);
/* The same file for zlib's gzread; what went wrong with it, in a sentence. */
struct gzFile_s;
ESPL_NODISCARD espl_status espl__gz_open(const char *path, struct gzFile_s **file, espl_diag *diag);
espl_status espl__gz_fail(espl_diag *diag, const char *path, struct gzFile_s *file);
/* The part of a path after the last '/'. Borrowed. */
const char *espl__data_base_name(const char *path);

/* --- the data set and its kinds ------------------------------------------------------------------ */

typedef struct espl__data_kind espl__data_kind;

struct espl_dataset {
    espl_context *ctx;
    espl__arena arena; /* names and small tables; dies with the data set */
    const espl__data_kind *kind;
    espl__data_desc *desc;
    /* Where the description came from, for messages and relative paths; text NULL: from a bare word. */
    const char *file, *folder;
    char *text;
    uint64_t text_length;

    /* Filled by kind->open. */
    void *state;
    int64_t total; /* samples before `every` and `count` */
    bool has_labels;
    const char *source; /* for describe: a base name */
    int inputs;
    const char *input_name[ESPL__DATA_MAX_INPUTS];
    espl_shape shape[ESPL__DATA_MAX_INPUTS]; /* of the samples given out; picture kinds: set by dataset.c */

    /* Of a text: token i of the stream stands for word tokens[i] of the vocabulary. NULL, 0 for other kinds.
     */
    const int32_t *tokens;
    int64_t token_count, vocabulary;

    /* Selection and preprocessing (dataset.c). */
    int64_t count, every_n, keep_count, *keep;
    bool nhwc;
    double scale;
    espl__picture picture, temporary;
    char describe[512];
};

/* Keys that only some kinds know. */
enum {
    ESPL__KEY_PATH = 1 << 0,
    ESPL__KEY_PATHS = 1 << 1,
    ESPL__KEY_LABELS = 1 << 2,
    ESPL__KEY_SPLIT = 1 << 3,
    ESPL__KEY_INPUTS = 1 << 4,
    ESPL__KEY_SEED = 1 << 5,
    ESPL__KEY_CHANNELS = 1 << 6,
    ESPL__KEY_PICTURE = 1 << 7, /* resize, crop */
    ESPL__KEY_TEXT = 1 << 8,    /* vocab, unit, sequence */
    ESPL__KEY_NUMBERS = 1 << 9, /* every, layout, scale, mean, std, label_offset, augment */
};

/* One file kind_*.c each, one row in kinds.list. */
struct espl__data_kind {
    const char *name;
    unsigned keys;
    /* Opens the files and fills the fields named above. On failure `state` may be half filled: close is
     * called. */
    espl_status (*open)(espl_dataset *dataset, espl_diag *diag);
    /* `index` counts the samples before selection. Exactly one of these two is given: `picture` decodes
     * sample `index` for resize, crop and layout; `read` fills `sample` in the shape of `input`. */
    espl_status (*picture)(espl_dataset *dataset, int64_t index, espl__picture *picture, espl_diag *diag);
    espl_status (*read)(espl_dataset *dataset, int input, int64_t index, float *sample, espl_diag *diag);
    espl_status (*label)(espl_dataset *dataset, int64_t index, int64_t *label,
                         espl_diag *diag); /* NULL: never any */
    void (*close)(espl_dataset *dataset);  /* `state` may be NULL */
};

/* Reads the description `spec` into dataset->desc, file, folder, text and kind, and checks its keys. */
ESPL_NODISCARD espl_status espl__desc_read(espl_dataset *dataset, const char *spec, espl_diag *diag);
void espl__desc_free(espl_dataset *dataset);
/* "FILE:LINE: KEY: sentence". */
espl_status espl__desc_fail(const espl_dataset *dataset, espl_status status, const char *key, espl_diag *diag,
                            const char *fmt, ...) ESPL_PRINTF(5, 6);
/* A path of the description made usable: ${ESPL_ASSETS} expanded, else relative to `folder`. Lives in the
 * arena. */
ESPL_NODISCARD espl_status espl__desc_path(espl_dataset *dataset, const char *key, const char *path,
                                           const char *folder, const char **out, espl_diag *diag);

/* --- samples before normalisation (dataset.c) ----------------------------------------------------- */

/* What scale, mean and std do to a value of one channel: computed in f64 and rounded once. */
typedef struct espl__affine {
    double scale, mean, std;
} espl__affine;
static inline float espl__affine_apply(espl__affine a, float x) {
    return (float)(((double)x * a.scale - a.mean) / a.std);
}
espl__affine espl__dataset_affine(const espl_dataset *dataset, int64_t channel);
/* As espl_dataset_read, but the values as the file has them. */
ESPL_NODISCARD espl_status espl__dataset_raw(espl_dataset *dataset, int input, int64_t index, float *sample,
                                             espl_diag *diag);

/* --- labels from files (labels.c) ---------------------------------------------------------------- */

/* Integer labels of a one-dimensional IDX (perhaps .gz) or .npy file, owned by the caller. */
ESPL_NODISCARD espl_status espl__labels_idx(espl_context *ctx, const char *path, int64_t **labels,
                                            int64_t *count, espl_diag *diag);
ESPL_NODISCARD espl_status espl__labels_npy(espl_context *ctx, const char *path, int64_t **labels,
                                            int64_t *count, espl_diag *diag);

#endif
