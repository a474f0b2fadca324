/* cuda: rows of a data set on the device, and batches from them. */
#include "backend/rows.h"

#include "backend/cuda/ops.h"
#include "base/random.h"
#include "kernels/rows.h"

/* Rows pass through pinned memory in pieces of this many bytes, or one row if it is larger. */
enum { PIECE_BYTES = 4 << 20 };

lips_status cuda_op_rows_load(lips_backend *be, const lips_rows *r, const lips_rows_source *s)
{
    lips_cuda *h;
    char *to = r->memory;
    LIPS_TRY(lips_check_rows(r, s));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_send(h, to, s->table, (size_t)r->c * 256 * sizeof(float)));
    LIPS_TRY(
        lips_cuda_send(h, to + lips_rows_source_at(r), s->source, (size_t)r->n * sizeof(int64_t)));
    if (r->classes)
        LIPS_TRY(lips_cuda_send(h, to + lips_rows_labels_at(r), s->labels,
                                (size_t)r->n * sizeof(int64_t)));
    if (r->targets)
        LIPS_TRY(lips_cuda_send(h, to + lips_rows_targets_at(r), s->targets,
                                (size_t)(r->n * r->targets) * sizeof(float)));
    const size_t bytes = lips_rows_row_bytes(r);
    const int64_t most = (int64_t)(PIECE_BYTES / bytes), step = most > 0 ? most : 1;
    to += lips_rows_values_at(r);
    for (int64_t first = 0; first < r->n; first += step) {
        const int64_t n = r->n - first < step ? r->n - first : step;
        lips_cuda_slot *slot;
        LIPS_TRY(lips_cuda_stage(h, (size_t)n * bytes, &slot));
        LIPS_TRY(lips_rows_pack(r, slot->host, s->x + first * r->c * r->h * r->w, n, s->table));
        LIPS_TRY(lips_cuda_stage_put(h, slot, to + (size_t)first * bytes, (size_t)n * bytes));
    }
    return LIPS_OK;
}

lips_status cuda_op_gather(lips_backend *be, const lips_gather_args *a)
{
    lips_cuda *h;
    void *sent = NULL;
    LIPS_TRY(lips_check_gather(a));
    LIPS_TRY(lips_cuda_layout("gather", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    const lips_rows *r = a->rows;
    const char *memory = r->memory;
    if (a->index && !a->order) {
        const size_t bytes = (size_t)a->y.b * sizeof *a->index;
        LIPS_TRY(lips_cuda_scratch(h, bytes, &sent));
        LIPS_TRY(lips_cuda_send(h, sent, a->index, bytes));
    }
    return lips_cuda_gather(
        &(lips_cuda_gather_args){
            .y = a->y.data,
            .images = a->y.lanes == LIPS_CUDA_IMAGES,
            .values = memory + lips_rows_values_at(r),
            .packed = r->packed,
            .table = (const float *)(const void *)memory,
            .source = (const int64_t *)(const void *)(memory + lips_rows_source_at(r)),
            .index = a->order ? a->order : sent,
            .cursor = a->order ? a->cursor : NULL,
            .first = a->index && !a->order ? 0 : a->first,
            .b = a->y.b,
            .cap = a->y.cap,
            .c = r->c,
            .h = r->h,
            .w = r->w,
            .augment = a->augment,
            .seed = a->seed,
            .stream = LIPS_STREAM_AUGMENT,
            .epoch = (uint32_t)a->epoch},
        h->stream);
}
