/*
 * measure/resident.h - samples in a device's memory, so that they cross the bus once however often
 * they are passed through a network.
 */
#ifndef LIPS_MEASURE_RESIDENT_H
#define LIPS_MEASURE_RESIDENT_H

#include "measure/measure.h"

/* Bytes of n samples of the network's input; 0 where a backend's ops read the host's memory anyway,
 * or it gathers no rows. */
size_t lips_inputs_load_bytes(const lips_net *net, const lips_ops *ops, int64_t n);

/* rows = the samples of in, in their order, in memory of be, which other handles read too; to be
 * released through be->ops. Where that has no use, or no room, rows->memory is NULL. */
lips_status lips_inputs_load(lips_rows *rows, const lips_net *net, lips_backend *be,
                             const lips_inputs *in);

#endif
