/* oneDNN's convolution in the memory layouts it likes best, beside which bench/conv.c puts ours. */
#ifndef LIPS_BENCH_CONV_ONEDNN_H
#define LIPS_BENCH_CONV_ONEDNN_H

#include "backend/cpu/conv.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[3];
} onednn;

static void onednn_must(dnnl_status_t st, const char *what)
{
    if (st == dnnl_success)
        return;
    fprintf(stderr, "bench: %s: oneDNN status %d\n", what, (int)st);
    exit(1);
}

#define ONEDNN(call) onednn_must(call, #call)

static dnnl_memory_t onednn_memory(onednn *d, const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, what, 0);
    dnnl_memory_t m;
    void *p;
    ONEDNN(dnnl_memory_create(&m, md, d->engine, DNNL_MEMORY_ALLOCATE));
    ONEDNN(dnnl_memory_get_data_handle(m, &p));
    const size_t n = dnnl_memory_desc_get_size(md) / sizeof(float);
    for (size_t i = 0; i < n; i++)
        ((float *)p)[i] = 0.5f;
    return m;
}

static void onednn_create(onednn *d, lips_conv_op op, const lips_conv_args *a)
{
    const int64_t n = a->y.b * a->y.t;
    const dnnl_dims_t src = {n, a->x.c, a->x.h, a->x.w}, dst = {n, a->y.c, a->y.h, a->y.w};
    const dnnl_dims_t weights = {a->y.c, a->x.c, a->geom.r, a->geom.r};
    const dnnl_dims_t stride = {a->geom.stride, a->geom.stride}, pad = {a->geom.pad, a->geom.pad};
    dnnl_memory_desc_t ms, mw, md;
    dnnl_convolution_desc_t cd;
    dnnl_primitive_desc_t pd, hint;
    ONEDNN(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
    ONEDNN(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags));
    ONEDNN(dnnl_memory_desc_init_by_tag(&ms, 4, src, dnnl_f32, dnnl_format_tag_any));
    ONEDNN(dnnl_memory_desc_init_by_tag(&mw, 4, weights, dnnl_f32, dnnl_format_tag_any));
    ONEDNN(dnnl_memory_desc_init_by_tag(&md, 4, dst, dnnl_f32, dnnl_format_tag_any));
    ONEDNN(dnnl_convolution_forward_desc_init(&cd, dnnl_forward_training, dnnl_convolution_auto,
                                              &ms, &mw, NULL, &md, stride, pad, pad));
    ONEDNN(dnnl_primitive_desc_create(&hint, &cd, NULL, d->engine, NULL));
    pd = hint;
    if (op == LIPS_CONV_VJP) {
        ONEDNN(dnnl_convolution_backward_data_desc_init(&cd, dnnl_convolution_auto, &ms, &mw, &md,
                                                        stride, pad, pad));
        ONEDNN(dnnl_primitive_desc_create(&pd, &cd, NULL, d->engine, hint));
    } else if (op == LIPS_CONV_GRAD) {
        ONEDNN(dnnl_convolution_backward_weights_desc_init(&cd, dnnl_convolution_auto, &ms, &mw,
                                                           NULL, &md, stride, pad, pad));
        ONEDNN(dnnl_primitive_desc_create(&pd, &cd, NULL, d->engine, hint));
    }
    const bool diff_src = op == LIPS_CONV_VJP, diff_w = op == LIPS_CONV_GRAD;
    const bool diff_dst = op != LIPS_CONV_FORWARD;
    d->args[0] = (dnnl_exec_arg_t){
        diff_src ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC,
        onednn_memory(d, pd, diff_src ? dnnl_query_diff_src_md : dnnl_query_src_md)};
    d->args[1] = (dnnl_exec_arg_t){
        diff_w ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS,
        onednn_memory(d, pd, diff_w ? dnnl_query_diff_weights_md : dnnl_query_weights_md)};
    d->args[2] = (dnnl_exec_arg_t){
        diff_dst ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST,
        onednn_memory(d, pd, diff_dst ? dnnl_query_diff_dst_md : dnnl_query_dst_md)};
    ONEDNN(dnnl_primitive_create(&d->primitive, pd));
    if (pd != hint)
        ONEDNN(dnnl_primitive_desc_destroy(pd));
    ONEDNN(dnnl_primitive_desc_destroy(hint));
}

static void onednn_run(void *user)
{
    onednn *d = user;
    ONEDNN(dnnl_primitive_execute(d->primitive, d->stream, 3, d->args));
    ONEDNN(dnnl_stream_wait(d->stream));
}

static void onednn_free(onednn *d)
{
    ONEDNN(dnnl_primitive_destroy(d->primitive));
    for (int i = 0; i < 3; i++)
        ONEDNN(dnnl_memory_destroy(d->args[i].memory));
    ONEDNN(dnnl_stream_destroy(d->stream));
    ONEDNN(dnnl_engine_destroy(d->engine));
}

#endif
