/*
 * sweep/device.h - which backend and device an experiment runs on.
 */
#ifndef LIPS_SWEEP_DEVICE_H
#define LIPS_SWEEP_DEVICE_H

#include "backend/backend.h"
#include "config/config.h"

/* Puts the backend that auto means here in its place, so that folders and records name what was
 * used; any other is left alone. LIPS_ERR_USAGE: auto among several values; an emulated
 * device without emulated: true. */
lips_status lips_experiment_resolve_backend(lips_experiment *e);

/* The configuration's backend, opened on its device. */
lips_status lips_device_open(lips_backend **out, const lips_config *cfg);

/* Bytes that cells may take now: of the device's memory if it has its own, of the host's (swap
 * included) if not; 1e300 where nobody knows. */
double lips_memory_available(const lips_ops *ops, int device);

#endif
