/*
 * tests/cusim/stream.h - the objects behind the runtime's stream, event and graph handles.
 */
#ifndef LIPS_TESTS_CUSIM_STREAM_H
#define LIPS_TESTS_CUSIM_STREAM_H

#include "sim.h"

#include <deque>
#include <memory>
#include <pthread.h>
#include <vector>

struct CUgraph_st {
    std::vector<cusim::Work> nodes; /* in the order of capture, which respects every edge */
    bool invalid = false;           /* a forbidden call was made during the capture */
};

struct CUgraphExec_st {
    std::vector<cusim::Work> nodes;
};

struct CUstream_st {
    std::deque<cusim::Work> queue;
    bool blocking = true;
    int device = 0;
    bool asked = false;          /* by cudaStreamQuery */
    CUgraph_st *graph = nullptr; /* being captured into */
    bool origin = false;         /* the capture began here */
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    pthread_t owner = {}; /* of the capture */
};

namespace cusim
{

/* One recording of an event; kept alive by those who wait for it. */
struct Record {
    CUstream_st *stream = nullptr;
    CUgraph_st *graph = nullptr; /* recorded in a capture */
    bool done = false, asked = false;
    double time = 0;
};

CUstream_st *stream_of(cudaStream_t s);
const std::vector<CUstream_st *> &all_streams();

} // namespace cusim

struct CUevent_st {
    std::shared_ptr<cusim::Record> record; /* the latest */
};

#endif
