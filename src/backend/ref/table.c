/* ref: the table. */
#include "backend/ref/ref.h"

extern const lips_ops lips_ref_ops;

const lips_ops lips_ref_ops = {
    .name = "ref",
    .real_bytes = sizeof(double),
    .open = ref_open,
    .close = ref_close,
    .alloc = ref_alloc,
    .release = ref_release,
    .sync = ref_sync,
    .write = ref_write,
    .read = ref_read,
    .zero = ref_zero,
    .copy = ref_copy,
    .diff_sumsq = ref_diff_sumsq,
    .plan_lanes = ref_plan_lanes,
    .tensor_bytes = ref_tensor_bytes,
    .upload = ref_upload,
    .upload_f64 = ref_upload_f64,
    .download = ref_download,
    .fill = ref_fill,
    .eye = ref_eye,
    .add = ref_add,
};
