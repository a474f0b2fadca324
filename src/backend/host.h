/*
 * backend/host.h - entries of the table that are the same for all backends whose memory is the
 * host's and whose ops are done when they return.
 */
#ifndef LIPS_BACKEND_HOST_H
#define LIPS_BACKEND_HOST_H

#include "backend/check.h"

lips_status lips_host_alloc(lips_backend *be, void **out, size_t bytes);
void lips_host_release(lips_backend *be, void *p);
lips_status lips_host_sync(lips_backend *be);
lips_status lips_host_zero(lips_backend *be, void *dst, size_t bytes);
lips_status lips_host_copy(lips_backend *be, void *dst, const void *src, size_t bytes);
lips_status lips_host_put(lips_backend *be, void *dst, const void *src, size_t bytes);
lips_status lips_host_fetch(lips_backend *be, void *dst, const void *src, size_t bytes, int slot);
lips_status lips_host_await(lips_backend *be, int slot);
lips_status lips_host_advance(lips_backend *be, const lips_advance_args *a);

/* host_vectors.c */
lips_status lips_host_dots(lips_backend *be, const lips_dots_args *a);
lips_status lips_host_combine(lips_backend *be, const lips_combine_args *a);
lips_status lips_host_narrow(lips_backend *be, void *dst, const double *src, int64_t n);
lips_status lips_host_widen(lips_backend *be, double *dst, double factor, const void *src,
                            int64_t n);
lips_status lips_host_signs(lips_backend *be, double *dst, int64_t draw, int64_t n);

/* The cursor's rate and step in their places; false: it has stopped. */
bool lips_host_sgd_now(lips_sgd_args *a);
bool lips_host_adam_now(lips_adam_args *a);

#endif
